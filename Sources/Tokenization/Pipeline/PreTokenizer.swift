internal import Patterns
internal import TensorFormats

/// How a text is split before merging: a sequence of splits, and finally the byte level.
struct PreTokenizer: Hashable, Sendable {
  /// One split, applied to every piece of the previous one.
  struct Split: Hashable, Sendable {
    var pattern: OnigurumaPattern
    var behavior: Behavior
    /// Whether matches and the text between them swap roles.
    var isInverted = false
  }

  /// The treatment of matches, with the names of `tokenizer.json`.
  enum Behavior: String, Hashable, Sendable {
    case isolated = "Isolated"
    case removed = "Removed"
    case contiguous = "Contiguous"
    case mergedWithPrevious = "MergedWithPrevious"
    case mergedWithNext = "MergedWithNext"
  }

  /// The splits before the byte level.
  var splits: [Split] = []
  /// Whether each piece that reaches the byte level gets a leading space, unless it has one.
  var addsPrefixSpace = false
  /// The byte level's own split, after the space.
  var lastSplit: Split?

  /// GPT-2's split into words, which is part of the byte level.
  static let gpt2Pattern =
    #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

  /// Calls `body` with the bytes of each word of `bytes[range]`, from left to right.
  ///
  /// - Throws: `.unsupported` if a pattern takes far more than linear time.
  func forEachWord(
    of bytes: [UInt8], _ range: Range<Int>, _ body: (Span<UInt8>) -> Void
  ) throws(CheckpointError) {
    var pieces = [range]
    for split in splits { pieces = try split.apply(to: pieces, of: bytes) }
    guard addsPrefixSpace else { return try emit(pieces, of: bytes, body) }
    for piece in pieces {
      let slice = bytes[piece]
      let spaced = slice.first == UInt8(ascii: " ") ? Array(slice) : [UInt8(ascii: " ")] + slice
      try emit([0..<spaced.count], of: spaced, body)
    }
  }

  private func emit(
    _ pieces: [Range<Int>], of bytes: [UInt8], _ body: (Span<UInt8>) -> Void
  ) throws(CheckpointError) {
    let words = try lastSplit?.apply(to: pieces, of: bytes) ?? pieces
    let span = bytes.span
    for word in words { body(span.extracting(word)) }
  }
}

extension PreTokenizer.Split {
  /// A split at every match of a regular expression.
  init(isolating pattern: String) throws(CheckpointError) {
    self.init(pattern: try OnigurumaPattern(pattern), behavior: .isolated)
  }

  /// Splits every piece; empty ones are dropped.
  func apply(to pieces: [Range<Int>], of bytes: [UInt8]) throws(CheckpointError) -> [Range<Int>] {
    var matcher = try OnigurumaMatcher(pattern, byteCount: pieces.reduce(0) { $0 + $1.count })
    var result: [Range<Int>] = []
    var parts: [(range: Range<Int>, isMatch: Bool)] = []
    for piece in pieces where !piece.isEmpty {
      parts.removeAll(keepingCapacity: true)
      var end = piece.lowerBound
      try matcher.forEachMatch(in: bytes, piece) { match in
        if end < match.lowerBound { parts.append((end..<match.lowerBound, isInverted)) }
        parts.append((match, !isInverted))
        end = match.upperBound
      }
      if end < piece.upperBound { parts.append((end..<piece.upperBound, isInverted)) }
      append(parts, to: &result)
    }
    return result
  }

  /// Source of the rules: `SplitDelimiterBehavior` of the `tokenizers` library.
  private func append(_ parts: [(range: Range<Int>, isMatch: Bool)], to result: inout [Range<Int>]) {
    let start = result.count
    var wasMatch = false
    switch behavior {
    case .isolated: for part in parts { result.append(part.range) }
    case .removed: for part in parts where !part.isMatch { result.append(part.range) }
    case .contiguous, .mergedWithPrevious:
      for part in parts {
        let joins = behavior == .contiguous ? part.isMatch == wasMatch : part.isMatch && !wasMatch
        if joins, result.count > start {
          result[result.count - 1] = result[result.count - 1].lowerBound..<part.range.upperBound
        } else {
          result.append(part.range)
        }
        wasMatch = part.isMatch
      }
    case .mergedWithNext:
      for part in parts.reversed() {
        if part.isMatch, !wasMatch, result.count > start {
          result[result.count - 1] = part.range.lowerBound..<result[result.count - 1].upperBound
        } else {
          result.append(part.range)
        }
        wasMatch = part.isMatch
      }
      result[start...].reverse()
    }
    // A match may be empty.
    if result[start...].contains(where: \.isEmpty) {
      result[start...] = ArraySlice(result[start...].filter { !$0.isEmpty })
    }
  }
}
