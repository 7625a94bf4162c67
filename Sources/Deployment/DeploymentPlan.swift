public import TensorFormats

/// The cost and speed of a model's deployment, and the machines it takes: the answer to a
/// ``DeploymentRequest``.
public struct DeploymentPlan: Hashable, Sendable, Encodable {
  /// The model.
  public let model: String
  /// Tokens before the decoded one.
  public let context: Int
  /// The arithmetic precision, on cards that support it.
  public let compute: Precision
  /// How the cache is stored.
  public let cache: Precision
  /// How weights are stored.
  public let weights: Precision
  /// The work for one token.
  public let work: DecodeWork
  /// The cost of one token on each kind of card.
  public let costs: [DecodeCost]
  /// The cards that were chosen for the two sides.
  public let disaggregated: DisaggregatedCost
  /// The share of experts that a token uses.
  public let sparsity: Double
  /// Which micro batches keep the feed-forward side busy, and which its network can carry.
  public let limits: BatchLimits
  /// Machines; `nil` if no number of them is enough.
  public let instances: Instances?
  /// Stages and time per token.
  public let pipeline: Pipeline
  /// The share of its peak that a card is assumed to reach in ``instances``.
  public let efficiency: Double

  /// Plans a deployment.
  ///
  /// - Throws: `.invalidRequest` if there are no cards, or a requested one is not described.
  public init(_ shape: DecoderShape, _ request: DeploymentRequest) throws(CheckpointError) {
    work = shape.work(context: request.context, cacheBytes: Double(request.cache.bytes))
    let (work, cards) = (work, request.accelerators)
    let costs = cards.map { DecodeCost(work, on: $0, precision: request.compute) }
    func cost(_ name: String?) throws(CheckpointError) -> DecodeCost? {
      guard let name else { return nil }
      guard let cost = costs.first(where: { $0.accelerator == name }) else {
        throw CheckpointError(.invalidRequest, "'\(name.printable)' is not one of the accelerators")
      }
      return cost
    }
    guard let cheapest = DisaggregatedCost(cheapestOf: costs) else {
      throw CheckpointError(.invalidRequest, "there is no accelerator to plan with")
    }
    disaggregated = DisaggregatedCost(
      attention: try cost(request.attention) ?? cheapest.attention,
      feedForward: try cost(request.feedForward) ?? cheapest.feedForward)
    self.costs = costs
    let (attentionName, networkName) = (
      disaggregated.attention.accelerator, disaggregated.feedForward.accelerator
    )
    guard let attention = cards.first(where: { $0.name == attentionName }),
      let feedForward = cards.first(where: { $0.name == networkName })
    else { throw CheckpointError(.invalidRequest, "there is no accelerator to plan with") }
    let limits = BatchLimits(
      shape, on: feedForward, precision: request.compute, weightBytes: Double(request.weights.bytes),
      pipeline: request.pipeline, cardsPerMachine: request.cardsPerMachine)
    self.limits = limits
    let stages = request.pipeline.stages
    let microBatch =
      request.batch.map { max(1, ($0 + stages - 1) / stages) }
      ?? max(1, Int(min(limits.experts.rounded(.up), limits.network.rounded(.down), 1e9)))
    instances = Instances(
      shape, request, attention: attention, feedForward: feedForward, microBatch: microBatch,
      batch: request.batch ?? microBatch * stages)
    model = shape.name
    context = request.context
    compute = request.compute
    cache = request.cache
    weights = request.weights
    sparsity = shape.sparsity
    pipeline = request.pipeline
    efficiency = request.efficiency
  }

  /// The same for other models, each on its cheapest cards.
  public static func comparing(
    _ shapes: [DecoderShape], _ request: DeploymentRequest
  ) throws(CheckpointError) -> [DeploymentPlan] {
    var request = request
    (request.attention, request.feedForward) = (nil, nil)
    var plans: [DeploymentPlan] = []
    for shape in shapes { plans.append(try DeploymentPlan(shape, request)) }
    return plans
  }
}
