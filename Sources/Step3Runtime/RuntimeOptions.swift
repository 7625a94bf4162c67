internal import Checkpoint
internal import Step3Model
internal import TensorFormats

/// The resources of a run.
public struct RuntimeOptions: Hashable, Sendable {
  /// The number of threads.
  public var threads: Int
  /// Bytes of memory for activations, tiles of weights and logits. The page cache is not counted: the system reclaims
  /// it.
  public var memory: Int

  /// Sets limits.
  public init(threads: Int, memory: Int) {
    self.threads = threads
    self.memory = memory
  }
}

/// The memory of a forward pass besides the weights, which are streamed.
struct MemoryNeed {
  private let text: Step3Configuration.Text
  private let threads: Int
  /// Copies of the residual stream kept beyond those of one pass.
  private let extraStreams: Int

  init(_ text: Step3Configuration.Text, threads: Int, extraStreams: Int = 0) {
    self.text = text
    self.threads = threads
    self.extraStreams = extraStreams
  }

  /// The largest number of query heads of any layer.
  private var mostHeads: Int { max(text.headCount, text.sliding?.headCount ?? 0) }

  /// Bytes per token of the batch.
  var perToken: Int {
    let heads = mostHeads * text.headDimension
    let groups = max(text.keyValueHeadCount, text.sliding?.keyValueHeadCount ?? 0)
    let attention = 2 * text.sharedQueryDimension + 2 * heads + 4 * groups * text.headDimension
    let inner = max(text.intermediateSize, text.sharedExpertIntermediateSize, text.expertIntermediateSize)
    let feedForward = 2 * inner + 2 * text.hiddenSize
    return 4 * ((3 + extraStreams) * text.hiddenSize + max(attention, feedForward))
  }

  /// Bytes independent of the number of tokens: for each thread a decoded tile and its stored bytes; scores.
  func fixed(longestSequence: Int) -> Int {
    let widest = max(text.hiddenSize, text.intermediateSize, mostHeads * text.headDimension)
    let tile = max(Products.largestTile, 16 * widest) * 6
    return threads * (tile + 4 * Attention.queryBlock * longestSequence) + (16 << 20)
  }

  /// - Throws: `.invalidRequest` with what would fit.
  func check(_ batch: TokenBatch, budget: Int) throws(CheckpointError) {
    let longest = batch.ranges.map(\.count).max() ?? 0
    let need = fixed(longestSequence: longest) + batch.tokens.count * perToken
    guard need <= budget else {
      throw CheckpointError(
        .invalidRequest,
        "\(batch.tokens.count) tokens need \(NumberText.binarySize(need)) of memory, but only "
          + "\(NumberText.binarySize(budget)) are allowed",
        remedy: "give --memory \((need + (1 << 20) - 1) >> 20)MiB, or fewer tokens")
    }
  }

  /// How many tokens' logits fit in the remaining memory.
  func logitRows(_ batch: TokenBatch, budget: Int, sides: Int) -> Int {
    let longest = batch.ranges.map(\.count).max() ?? 0
    let left = budget - fixed(longestSequence: longest) - batch.tokens.count * perToken
    return min(max(1, batch.tokens.count), max(1, left / (sides * 4 * text.vocabularySize)))
  }
}
