/// How often a token goes from attention to the feed-forward networks and back, and how long that may take.
///
/// Source: Step-3 system report (arXiv 2507.19427), pages 3, 9 and 10: micro batches go through a pipeline whose stages
/// (attention, feed-forward networks, network) take equally long, so that one stage has the time per output token
/// divided by their number, and one layer of it that divided by the number of layers.
public struct Pipeline: Hashable, Sendable, Encodable {
  /// Seconds between two tokens of a sequence.
  public let secondsPerToken: Double
  /// Stages, and micro batches under way.
  public let stages: Int

  /// Describes a pipeline.
  public init(secondsPerToken: Double, stages: Int) {
    self.secondsPerToken = secondsPerToken
    self.stages = stages
  }

  /// Seconds of one stage, all layers.
  public var stageSeconds: Double { secondsPerToken / Double(stages) }

  /// Bytes on the network for each element of a token's vector: one in FP8 to the experts, two in BF16 back.
  static let bytesPerElement = 3.0
}

/// Which batches keep a side's cards busy, and which the network carries in time.
public struct BatchLimits: Hashable, Sendable, Encodable {
  /// Tokens at which a dense layer computes as long as its weights are read.
  public let dense: Double
  /// The same for a layer of experts, of which a token passes a few: the smallest micro batch that keeps the cards busy.
  public let experts: Double
  /// The largest micro batch of which the network carries every token to a machine and back within a stage.
  public let network: Double
  /// The smallest share of experts that a token may pass for both to go together.
  public let minimumSparsity: Double
  /// Whether a micro batch exists that keeps the cards busy and that the network carries.
  public let canHideNetwork: Bool

  /// Calculates them for the side of the feed-forward networks.
  ///
  /// - Parameters:
  ///   - weightBytes: Bytes of a weight.
  ///   - cardsPerMachine: Cards whose networks carry what goes to one machine.
  public init(
    _ shape: DecoderShape, on card: Accelerator, precision: Precision, weightBytes: Double,
    pipeline: Pipeline, cardsPerMachine: Int
  ) {
    dense = card.roofline(precision) * weightBytes / 2
    experts = dense / shape.sparsity
    let layerSeconds = pipeline.stageSeconds / Double(shape.layerCount)
    let bytes = Pipeline.bytesPerElement * Double(shape.hiddenSize)
    network = layerSeconds * card.network * Double(cardsPerMachine) / bytes
    minimumSparsity = dense / network
    canHideNetwork = experts <= network
  }
}
