/// How many machines each side needs to process a batch in time, and the cost.
///
/// A side needs machines until its weights and its cache fit, one micro batch takes no longer than a stage, and the
/// network carries the micro batch's tokens. Attention machines share the sequences; feed-forward machines share the
/// weights, and each gets every token (Step-3 system report, arXiv 2507.19427, pages 9, 12 and 14).
public struct Instances: Hashable, Sendable, Encodable {
  /// One side.
  public struct Side: Hashable, Sendable, Encodable {
    /// The card.
    public let accelerator: String
    /// Machines, which the report calls instances.
    public let machines: Int
    /// Cards of all of them.
    public let cards: Int
    /// Seconds that one micro batch takes.
    public let stageSeconds: Double
    /// Bytes that one card holds: weights, and the cache of its sequences.
    public let bytesPerCard: Double
  }

  /// Sequences in flight.
  public let batch: Int
  /// Those of one micro batch.
  public let microBatch: Int
  /// The attention side.
  public let attention: Side
  /// The feed-forward side.
  public let feedForward: Side
  /// The network's time for one micro batch, at the busier end, in seconds.
  public let networkSeconds: Double
  /// Seconds that a stage may take.
  public let stageSeconds: Double
  /// Tokens per second and card at the requested time per token.
  public let tokensPerSecondPerCard: Double
  /// US dollars for a million tokens at that speed.
  public let cost: Double
  /// Whether the network can carry the micro batch within a stage.
  public let hidesNetwork: Bool
}

extension Instances {
  /// The work and memory of a side's cards.
  private struct Load {
    let card: Accelerator
    let request: DeploymentRequest
    /// Seconds for all tokens of a micro batch on a single card, without reading weights.
    let computing: Double
    /// Bytes of weights that one card holds and reads in a stage, given the cards of its side.
    let weights: (_ cards: Double) -> Double
    /// Bytes of weights that one card holds and does not read in every stage.
    let resident: Double
    /// Further bytes that the side holds.
    let cache: Double
    /// Seconds of the micro batch on one card that overlap with reading weights.
    let besideWeights: Double

    func bytes(_ cards: Int) -> Double { weights(Double(cards)) + resident + cache / Double(cards) }

    /// Reading weights overlaps with their operations; the rest is added.
    func seconds(_ cards: Int) -> Double {
      let reading = weights(Double(cards)) / card.bandwidth
      return (max(besideWeights / Double(cards), reading) + (computing - besideWeights) / Double(cards))
        / request.efficiency
    }

    /// The fewest machines that suffice; `nil` if no number does.
    func machines() -> Int? {
      func suffices(_ machines: Int) -> Bool {
        let cards = machines * request.cardsPerMachine
        return bytes(cards) <= card.memory * request.memoryShare
          && seconds(cards) <= request.pipeline.stageSeconds
      }
      // Both fall as machines are added, so the first sufficient number lies between powers of two.
      var high = 1
      while !suffices(high) {
        guard high < Instances.mostMachines else { return nil }
        high *= 2
      }
      var low = high / 2
      while high - low > 1 {
        let middle = (low + high) / 2
        if suffices(middle) { high = middle } else { low = middle }
      }
      return high
    }
  }

  /// More machines than anyone has.
  static let mostMachines = 1 << 16

  /// Finds the fewest machines.
  ///
  /// - Parameter microBatch: Tokens of one stage; the batch is that of all stages.
  /// - Returns: `nil` if no number of machines is enough: a stage is shorter than reading the attention weights, which
  ///   every card holds, or these do not fit.
  init?(
    _ shape: DecoderShape, _ request: DeploymentRequest, attention: Accelerator, feedForward: Accelerator,
    microBatch: Int, batch: Int
  ) {
    let work = shape.work(context: request.context, cacheBytes: Double(request.cache.bytes))
    let weightBytes = Double(request.weights.bytes)
    let tokens = Double(microBatch)
    let attentionCost = DecodeCost(work, on: attention, precision: request.compute)
    let projecting = work.projectionFLOPs / attention.operations(request.compute)
    let projections = shape.projectionWeights * weightBytes
    let attentionLoad = Load(
      card: attention, request: request, computing: tokens * attentionCost.attentionSeconds,
      weights: { _ in projections },
      resident: shape.vocabularyWeights * Double(Precision.bf16.bytes),
      cache: Double(batch) * shape.cacheBytesHeld(request),
      besideWeights: tokens * projecting)
    let feeding = tokens * work.feedForwardFLOPs / feedForward.operations(request.compute)
    let all = shape.feedForwardWeights * weightBytes
    let feedForwardLoad = Load(
      card: feedForward, request: request, computing: feeding, weights: { all / $0 }, resident: 0, cache: 0,
      besideWeights: feeding)
    guard let a = attentionLoad.machines(), let f = feedForwardLoad.machines() else { return nil }
    func side(_ load: Load, _ machines: Int) -> Side {
      let cards = machines * request.cardsPerMachine
      return Side(
        accelerator: load.card.name, machines: machines, cards: cards, stageSeconds: load.seconds(cards),
        bytesPerCard: load.bytes(cards))
    }
    self.attention = side(attentionLoad, a)
    self.feedForward = side(feedForwardLoad, f)
    self.batch = batch
    self.microBatch = microBatch
    stageSeconds = request.pipeline.stageSeconds
    let bytes =
      Pipeline.bytesPerElement * Double(shape.hiddenSize) * tokens * Double(shape.layerCount)
      / Double(request.cardsPerMachine)
    // Every token goes to all feed-forward machines, from the attention machine that has it.
    networkSeconds = max(
      bytes / feedForward.network, bytes * Double(f) / Double(a) / attention.network)
    hidesNetwork = networkSeconds <= stageSeconds
    let cards = Double((a + f) * request.cardsPerMachine)
    let rate = Double(batch) / request.pipeline.secondsPerToken
    tokensPerSecondPerCard = rate / cards
    let price =
      Double(request.cardsPerMachine)
      * (Double(a) * attention.pricePerSecond + Double(f) * feedForward.pricePerSecond)
    cost = price / rate * 1e6
  }
}

extension DecoderShape {
  /// The bytes of one sequence's cache.
  func cacheBytesHeld(_ request: DeploymentRequest) -> Double {
    attention.reduce(0) {
      $0 + Double($1.count)
        * $1.cacheBytesHeld(context: request.context, elementBytes: Double(request.cache.bytes))
    }
  }
}
