internal import TensorFormats

/// A tokenizer as defined by a file, independent of the file's format.
struct TokenizerDefinition {
  /// The model's tokens. Texts and ids occur once each.
  var vocabulary: [(text: String, id: Int)] = []
  /// Pairs to join, best first.
  var merges: [(left: String, right: String)] = []
  var addedTokens: [AddedToken] = []
  /// The token for text that the vocabulary cannot represent.
  var unknownToken: String?
  var fusesUnknown = false
  var usesByteFallback = false
  /// Whether a word that is a token is used directly, without applying merges.
  var ignoresMerges = false
  var normalizer = Normalizer()
  var preTokenizer = PreTokenizer()
  /// The tokens added around a text, if special tokens are requested.
  var prefix: [Int] = []
  var suffix: [Int] = []
  /// Whether decoding turns tokens into bytes; otherwise tokens are joined by spaces.
  var decodesBytes = true

  /// Assigns every added token the id that the `tokenizers` library assigns, and refuses any other: the library
  /// would encode text differently, with only a warning.
  ///
  /// - Returns: The added tokens without duplicates.
  func numberedAddedTokens(_ ids: [Bytewise: Int32]) throws(CheckpointError) -> [AddedToken] {
    var known: [Bytewise: AddedToken] = [:]
    var result: [AddedToken] = []
    var next = vocabulary.count
    for token in addedTokens where !token.content.isEmpty {
      let key = Bytewise(text: token.content)
      if let earlier = known[key] {
        guard earlier == token else {
          throw CheckpointError(
            .malformed, "added_tokens: '\(token.content.printable)' appears twice, with different properties"
          )
        }
        continue
      }
      let expected: Int
      if let id = ids[key] {
        expected = Int(id)
      } else {
        expected = next
        next += 1
      }
      guard token.id == expected else {
        throw CheckpointError(
          .malformed,
          "added_tokens: '\(token.content.printable)': expected id \(expected), which the tokenizers library assigns, found \(token.id)"
        )
      }
      known[key] = token
      result.append(token)
    }
    return result
  }
}
