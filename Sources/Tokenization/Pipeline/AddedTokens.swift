internal import TensorFormats

/// A token that is matched in text before anything else.
struct AddedToken: Hashable, Sendable {
  /// Its id.
  var id: Int
  /// Its text.
  var content: String
  /// Whether it represents structure rather than text, and may be skipped when decoding.
  var isSpecial = false
  /// Whether it only matches without adjacent word characters.
  var isSingleWord = false
  /// Whether it absorbs the whitespace before it.
  var stripsLeft = false
  /// Whether it absorbs the whitespace after it.
  var stripsRight = false
  /// Whether it is normalised and matched in normalised text.
  var isNormalized = false
}

/// Finds added tokens in a text: leftmost longest matches.
///
/// Source of the rules around words and white space: `AddedVocabulary::find_matches` of the `tokenizers` library.
struct AddedTokenFinder: Sendable {
  /// The longest text of a token, in bytes; it bounds the time per byte of text.
  static let longestContent = 1024
  /// The maximum total size of all of them.
  private static let mostBytes = 4 << 20

  /// A piece of a text: one token, or bytes without any.
  struct Piece {
    var range: Range<Int>
    var id: Int?
  }

  private var tokens: [AddedToken] = []
  /// From a node (times 256) and a byte to the next node.
  private var edges: [UInt64: Int32] = [:]
  /// By node: the index of the token that ends there, or -1.
  private var ends: [Int32] = [-1]
  private var startsToken = [Bool](repeating: false, count: 256)

  /// Creates a finder; `normalizer` is applied to the tokens first.
  ///
  /// - Throws: `.malformed` if two tokens then have the same text, `.unsupported` if the tokens are too long.
  init(_ tokens: [AddedToken], normalizer: Normalizer = Normalizer()) throws(CheckpointError) {
    for token in tokens {
      let content = Array(normalizer.normalize(token.content).utf8)
      guard !content.isEmpty else { continue }
      guard content.count <= Self.longestContent, ends.count + content.count <= Self.mostBytes else {
        throw CheckpointError(
          .unsupported,
          "added token '\(token.content.printable)': expected at most \(Self.longestContent) bytes, and \(Self.mostBytes) in all"
        )
      }
      startsToken[Int(content[0])] = true
      var node = 0
      for byte in content {
        let key = UInt64(node) << 8 | UInt64(byte)
        if let next = edges[key] {
          node = Int(next)
        } else {
          edges[key] = Int32(truncatingIfNeeded: ends.count)
          node = ends.count
          ends.append(-1)
        }
      }
      guard ends[node] < 0 else {
        throw CheckpointError(
          .malformed,
          "added token '\(token.content.printable)': expected its normalised text once, found it again")
      }
      ends[node] = Int32(truncatingIfNeeded: self.tokens.count)
      self.tokens.append(token)
    }
  }

  /// Splits `bytes[range]` at the tokens; pieces between them are never empty.
  func pieces(of bytes: [UInt8], _ range: Range<Int>) -> [Piece] {
    guard !tokens.isEmpty else { return range.isEmpty ? [] : [Piece(range: range)] }
    var pieces: [Piece] = []
    var done = range.lowerBound
    var position = range.lowerBound
    while position < range.upperBound {
      guard startsToken[Int(bytes[position])], let (number, end) = longest(bytes, position..<range.upperBound)
      else {
        position += 1
        continue
      }
      let token = tokens[number]
      var found = position..<end
      position = end
      if token.isSingleWord {
        let before = found.lowerBound > range.lowerBound ? Self.scalar(bytes, before: found.lowerBound) : nil
        let after = found.upperBound < range.upperBound ? Self.scalar(bytes, at: found.upperBound) : nil
        if before.map(Self.isWord) ?? false || after.map(Self.isWord) ?? false { continue }
      }
      var lower = found.lowerBound
      if token.stripsLeft {
        var start = found.lowerBound
        while start > range.lowerBound {
          let scalar = Self.scalar(bytes, before: start)
          guard scalar.properties.isWhitespace else { break }
          start -= Self.length(of: scalar)
        }
        // Whitespace absorbed by the previous token belongs to it.
        lower = max(start, done)
      }
      if token.stripsRight {
        var stop = found.upperBound
        while stop < range.upperBound {
          let scalar = Self.scalar(bytes, at: stop)
          guard scalar.properties.isWhitespace else { break }
          stop += Self.length(of: scalar)
        }
        found = found.lowerBound..<stop
      }
      // A token entirely within the part absorbed by the previous one is dropped.
      guard lower < found.upperBound else { continue }
      found = lower..<found.upperBound
      if done < found.lowerBound { pieces.append(Piece(range: done..<found.lowerBound)) }
      pieces.append(Piece(range: found, id: token.id))
      done = found.upperBound
    }
    if done < range.upperBound { pieces.append(Piece(range: done..<range.upperBound)) }
    return pieces
  }

  private func longest(_ bytes: [UInt8], _ range: Range<Int>) -> (token: Int, end: Int)? {
    var node = 0
    var best: (Int, Int)?
    for index in range {
      guard let next = edges[UInt64(node) << 8 | UInt64(bytes[index])] else { break }
      node = Int(next)
      if ends[node] >= 0 { best = (Int(ends[node]), index + 1) }
    }
    return best
  }

  // MARK: Neighbours

  /// The meaning of `\w` in the reference: letters, marks, decimal digits, connectors and joiners.
  private static func isWord(_ scalar: Unicode.Scalar) -> Bool {
    let properties = scalar.properties
    switch properties.generalCategory {
    case .decimalNumber, .connectorPunctuation, .nonspacingMark, .spacingMark, .enclosingMark: return true
    default: return properties.isAlphabetic || properties.isJoinControl
    }
  }

  private static func length(of scalar: Unicode.Scalar) -> Int { UTF8.width(scalar) }

  private static func scalar(_ bytes: [UInt8], at start: Int) -> Unicode.Scalar {
    let end = min(start + 4, bytes.count)
    return String(decoding: bytes[start..<end], as: UTF8.self).unicodeScalars.first ?? "\u{FFFD}"
  }

  private static func scalar(_ bytes: [UInt8], before end: Int) -> Unicode.Scalar {
    var start = end - 1
    while start > 0, bytes[start] & 0xC0 == 0x80 { start -= 1 }
    return scalar(bytes, at: start)
  }
}
