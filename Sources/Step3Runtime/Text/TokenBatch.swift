/// Token sequences that go through the model together, so that each weight is read once for all of them.
public struct TokenBatch: Sendable {
  /// The tokens of all sequences, one sequence after the other.
  public let tokens: [Int]
  /// The position of each token in its sequence, from 0.
  public let positions: [Int]
  /// Which tokens belong to which sequence.
  public let ranges: [Range<Int>]

  /// Combines sequences.
  ///
  /// - Parameters:
  ///   - sequences: Token ids of each sequence, none of them empty.
  ///   - firstPositions: The first position of each: after what a cache already holds. 0 by default.
  public init(_ sequences: [[Int]], firstPositions: [Int]? = nil) {
    precondition(firstPositions == nil || firstPositions?.count == sequences.count)
    var tokens: [Int] = []
    var positions: [Int] = []
    var ranges: [Range<Int>] = []
    for (index, sequence) in sequences.enumerated() {
      let first = firstPositions?[index] ?? 0
      ranges.append(tokens.count..<tokens.count + sequence.count)
      tokens += sequence
      positions += first..<first + sequence.count
    }
    self.tokens = tokens
    self.positions = positions
    self.ranges = ranges
  }
}

/// Keys and values of past tokens, by layer and sequence, for generation.
///
/// Memory: 2 × key-value heads × head dimension × 4 bytes for each token and layer.
public final class KeyValueCache {
  struct Entry {
    var keys: [Float] = []
    var values: [Float] = []
  }

  /// By layer, then by sequence.
  private var entries: [[Entry]]

  /// Makes an empty one.
  public init(layerCount: Int, sequenceCount: Int) {
    entries = Array(repeating: Array(repeating: Entry(), count: sequenceCount), count: layerCount)
  }

  func append(_ keys: [Float], _ values: [Float], layer: Int, sequence: Int) {
    entries[layer][sequence].keys += keys
    entries[layer][sequence].values += values
  }

  func entry(layer: Int, sequence: Int) -> Entry { entries[layer][sequence] }
}
