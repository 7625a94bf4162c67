internal import TensorFormats

/// What a file says of a tokenizer, whatever the file's format.
struct TokenizerDefinition {
  /// The model's tokens. Texts and ids occur once each.
  var vocabulary: [(text: String, id: Int)] = []
  /// Pairs to join, best first.
  var merges: [(left: String, right: String)] = []
  var addedTokens: [AddedToken] = []
  /// The token for what the vocabulary cannot write.
  var unknownToken: String?
  var fusesUnknown = false
  var usesByteFallback = false
  /// Whether a word that is a token is taken whole, without joining pairs.
  var ignoresMerges = false
  var normalizer = Normalizer()
  var preTokenizer = PreTokenizer()
  /// The tokens around a text, if special tokens are asked for.
  var prefix: [Int] = []
  var suffix: [Int] = []
  /// Whether decoding turns tokens into bytes; otherwise tokens are joined by spaces.
  var decodesBytes = true

  /// Gives every added token the id that the `tokenizers` library gives it, and refuses another one: text would be
  /// encoded differently there, after a mere warning.
  ///
  /// - Returns: The added tokens without repetitions.
  func numberedAddedTokens(_ ids: [Bytewise: Int32]) throws(CheckpointError) -> [AddedToken] {
    var known: [Bytewise: AddedToken] = [:]
    var result: [AddedToken] = []
    var next = vocabulary.count
    for token in addedTokens where !token.content.isEmpty {
      let key = Bytewise(text: token.content)
      if let earlier = known[key] {
        guard earlier == token else {
          throw CheckpointError(
            .malformed, "added_tokens: '\(token.content.printable)' is there twice, with different properties"
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
          "added_tokens: '\(token.content.printable)': expected id \(expected), which the tokenizers library gives it, found \(token.id)"
        )
      }
      known[key] = token
      result.append(token)
    }
    return result
  }
}
