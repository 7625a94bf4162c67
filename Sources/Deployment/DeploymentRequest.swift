/// What a deployment is planned for: the available cards, and the requirements.
public struct DeploymentRequest: Hashable, Sendable {
  /// The kinds of cards.
  public var accelerators: [Accelerator]
  /// The card for attention; `nil` for the cheapest.
  public var attention: String?
  /// The card for the feed-forward networks; `nil` for the cheapest.
  public var feedForward: String?
  /// Tokens before the decoded one.
  public var context: Int
  /// Sequences in flight, over all stages; `nil` for the smallest batch that keeps the cards busy.
  public var batch: Int?
  /// Stages and time per token.
  public var pipeline: Pipeline
  /// The arithmetic precision, on cards that support it.
  public var compute: Precision
  /// How the cache is stored.
  public var cache: Precision
  /// How weights are stored.
  public var weights: Precision
  /// Cards per machine.
  public var cardsPerMachine: Int
  /// The share of its peak, in operations and in bytes, that a card reaches.
  public var efficiency: Double
  /// The share of a card's memory that may be used.
  public var memoryShare: Double

  /// The cards of an instance in the Step-3 report.
  public static let usualMachine = 8
  /// The share of a card's memory that serving engines use by default.
  public static let usualMemoryShare = 0.9
  /// The report's limit: 20 tokens per second and sequence, in three stages.
  public static let usualPipeline = Pipeline(secondsPerToken: 0.05, stages: 3)

  /// Describes one.
  public init(
    accelerators: [Accelerator], attention: String? = nil, feedForward: String? = nil, context: Int,
    batch: Int? = nil, pipeline: Pipeline = usualPipeline, compute: Precision = .fp8,
    cache: Precision = .fp8, weights: Precision = .fp8, cardsPerMachine: Int = usualMachine,
    efficiency: Double = 1, memoryShare: Double = usualMemoryShare
  ) {
    self.accelerators = accelerators
    self.attention = attention
    self.feedForward = feedForward
    self.context = context
    self.batch = batch
    self.pipeline = pipeline
    self.compute = compute
    self.cache = cache
    self.weights = weights
    self.cardsPerMachine = cardsPerMachine
    self.efficiency = efficiency
    self.memoryShare = memoryShare
  }
}
