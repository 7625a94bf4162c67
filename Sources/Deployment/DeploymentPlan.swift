public import TensorFormats

/// What a deployment of a model costs, how fast it is, and how many machines it takes: the answer to a
/// ``DeploymentRequest``.
public struct DeploymentPlan: Hashable, Sendable, Encodable {
  /// The model.
  public let model: String
  /// Tokens before the one that is decoded.
  public let context: Int
  /// How numbers are multiplied, where a card can.
  public let compute: Precision
  /// How the cache is stored.
  public let cache: Precision
  /// How weights are stored.
  public let weights: Precision
  /// What one token takes.
  public let work: DecodeWork
  /// What one token costs on each kind of card.
  public let costs: [DecodeCost]
  /// The cards that were chosen for the two sides.
  public let disaggregated: DisaggregatedCost
  /// The share of experts that a token passes.
  public let sparsity: Double
  /// Which micro batches keep the side of the feed-forward networks busy, and which its network carries.
  public let limits: BatchLimits
  /// Machines; `nil` where no number of them is enough.
  public let instances: Instances?
  /// Stages and time per token.
  public let pipeline: Pipeline
  /// The share of its peak that a card is taken to reach with ``instances``.
  public let efficiency: Double

  /// Plans it.
  ///
  /// - Throws: `.invalidRequest` where there are no cards, or one is asked for that is not described.
  public init(_ shape: DecoderShape, _ request: DeploymentRequest) throws(CheckpointError) {
    work = shape.work(context: request.context, cacheBytes: Double(request.cache.bytes))
    let (work, cards) = (work, request.accelerators)
    let costs = cards.map { DecodeCost(work, on: $0, precision: request.compute) }
    func cost(_ name: String?) throws(CheckpointError) -> DecodeCost? {
      guard let name else { return nil }
      guard let cost = costs.first(where: { $0.accelerator == name }) else {
        throw CheckpointError(.invalidRequest, "'\(name.printable)' is none of the accelerators")
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

  /// The same question about other models, by the cheapest cards for each.
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
