/// The pipeline in which tokens go from attention to the feed-forward networks and back, and its time limit.
///
/// Source: Step-3 system report (arXiv 2507.19427), pages 3, 9 and 10: micro batches go through a pipeline whose stages
/// (attention, feed-forward networks, network) take equally long, so that one stage has the time per output token
/// divided by their number, and one layer of it that divided by the number of layers.
public struct Pipeline: Hashable, Sendable, Encodable {
  /// Seconds between two tokens of a sequence.
  public let secondsPerToken: Double
  /// Stages, and micro batches in flight.
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

/// Which batches keep a side's cards busy, and which the network can carry in time.
public struct BatchLimits: Hashable, Sendable, Encodable {
  /// Tokens at which a dense layer computes for as long as its weights are read.
  public let dense: Double
  /// The same for a layer of experts, where a token uses only a few: the smallest micro batch that keeps the cards
  /// busy.
  public let experts: Double
  /// The largest micro batch whose tokens the network can carry to a machine and back within a stage.
  public let network: Double
  /// The smallest share of experts per token at which both are possible.
  public let minimumSparsity: Double
  /// Whether some micro batch keeps the cards busy and can be carried by the network.
  public let canHideNetwork: Bool

  /// Calculates them for the feed-forward side.
  ///
  /// - Parameters:
  ///   - weightBytes: Bytes of a weight.
  ///   - cardsPerMachine: Cards whose networks carry one machine's traffic.
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
