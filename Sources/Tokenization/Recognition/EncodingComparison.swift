internal import TensorFormats

/// Whether splitting text differently changes its tokens for a given vocabulary.
///
/// A split only matters where a token would cross it. So every token of several characters is tried in many contexts,
/// in addition to the texts that splits are compared on.
struct EncodingComparison {
  private let definition: TokenizerDefinition
  private let joining: BytePairModel
  private let taking: BytePairModel
  /// The texts of all tokens that a split could cut; `nil` if one of them is not valid text, so that it cannot be
  /// tried.
  private let tokens: [String]?

  init(_ definition: TokenizerDefinition) throws(CheckpointError) {
    self.definition = definition
    var ids: [Bytewise: Int32] = [:]
    for (text, id) in definition.vocabulary { ids[Bytewise(text: text)] = Int32(truncatingIfNeeded: id) }
    var plain = definition
    plain.ignoresMerges = false
    joining = try BytePairModel(plain, ids)
    plain.ignoresMerges = true
    taking = try BytePairModel(plain, ids)
    let added = Set(definition.addedTokens.map { Bytewise(text: $0.content) })
    var tokens: [String]? = []
    for (text, _) in definition.vocabulary where !added.contains(Bytewise(text: text)) {
      guard let bytes = ByteAlphabet.bytes(of: text), bytes.count > 1 else { continue }
      if let token = String(validating: bytes, as: UTF8.self) {
        tokens?.append(token)
      } else if bytes.dropFirst().contains(where: { $0 & 0xC0 != 0x80 }) {
        // Parts of two characters or more.
        tokens = nil
      }
    }
    self.tokens = tokens
  }

  /// Whether all texts have the same tokens if they are split by `known`.
  func isSame(as known: KnownPreTokenizer) throws(CheckpointError) -> Bool {
    guard let tokens else { return false }
    let other = try PreTokenizer(known)
    var (own, others) = (encoder(definition.ignoresMerges), encoder(known.ignoresMerges))
    func isSame(_ text: String) throws(CheckpointError) -> Bool {
      let bytes = Array(text.utf8)
      var (left, right): ([Int], [Int]) = ([], [])
      try definition.preTokenizer.forEachWord(of: bytes, 0..<bytes.count) { own.encode($0, to: &left) }
      try other.forEachWord(of: bytes, 0..<bytes.count) { others.encode($0, to: &right) }
      return left == right
    }
    for text in [PreTokenizerRecognition.checkText] + PreTokenizerRecognition.probes {
      guard try isSame(writable(text)) else { return false }
    }
    // All pairs of contexts for a small vocabulary, one side at a time for a large one.
    let neighbours = Self.neighbours.map(writable)
    for token in tokens {
      var text = ""
      if tokens.count <= 2048 {
        for left in neighbours { for right in neighbours { text += "\(left)\(token)\(right)\n" } }
      } else {
        for neighbour in neighbours { text += "\(neighbour)\(token) \(token)\(neighbour)\n" }
      }
      guard try isSame(writable(text)) else { return false }
    }
    return true
  }

  private static let neighbours = [
    "", "a", "Z", "1", "12", "123", " ", "  ", "\n", "'", ".", "$", "/", "中", "가", "é", "\u{301}",
  ]

  private func encoder(_ ignoresMerges: Bool) -> BytePairEncoder {
    BytePairEncoder(ignoresMerges ? taking : joining)
  }

  /// The text without the characters that the vocabulary cannot represent, whose removal would join their neighbours.
  private func writable(_ text: String) -> String {
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      let isKnown = String(scalar).utf8.allSatisfy { byte in
        if case .token = joining.starts[Int(byte)] { true } else { false }
      }
      if isKnown { result.append(scalar) }
    }
    return String(result)
  }
}
