public import TensorFormats

extension Tokenizer {
  /// The token ids of a text.
  ///
  /// Added tokens that appear in the text, such as `<think>`, become their ids.
  ///
  /// - Parameters:
  ///   - text: Any text, the empty one too.
  ///   - addSpecialTokens: Whether the post-processor's tokens are added around the text.
  /// - Throws: `.unsupported` if the pre-tokenizer's regular expression takes far more than linear time for the text.
  /// - Complexity: O(n log n) in the text's bytes at most, nearly linear for text with words.
  public func encode(_ text: String, addSpecialTokens: Bool) throws(CheckpointError) -> [Int] {
    var output = addSpecialTokens ? prefix : []
    var encoder = BytePairEncoder(model)
    let bytes = Array(text.utf8)
    for piece in addedTokens.pieces(of: bytes, 0..<bytes.count) {
      if let id = piece.id {
        output.append(id)
      } else if normalizer.isIdentity {
        try encode(bytes, piece.range, &encoder, &output)
      } else {
        let text = normalizer.normalize(String(decoding: bytes[piece.range], as: UTF8.self))
        let normalized = Array(text.utf8)
        try encode(normalized, 0..<normalized.count, &encoder, &output)
      }
    }
    if addSpecialTokens { output += suffix }
    return output
  }

  /// Encodes normalised text.
  private func encode(
    _ bytes: [UInt8], _ range: Range<Int>, _ encoder: inout BytePairEncoder, _ output: inout [Int]
  ) throws(CheckpointError) {
    for piece in normalizedAddedTokens.pieces(of: bytes, range) {
      if let id = piece.id {
        output.append(id)
      } else {
        try preTokenizer.forEachWord(of: bytes, piece.range) { encoder.encode($0, to: &output) }
      }
    }
  }

  /// The text of token ids.
  ///
  /// Bytes that are not UTF-8, such as half a character's, become U+FFFD; ids without a token are skipped.
  ///
  /// - Parameters:
  ///   - ids: The token ids.
  ///   - skipSpecialTokens: Whether special tokens are left out.
  public func decode(_ ids: [Int], skipSpecialTokens: Bool = false) -> String {
    var bytes: [UInt8] = []
    var isFirst = true
    for id in ids where token(id) != nil && !(skipSpecialTokens && isSpecial[id]) {
      if !decodesBytes, !isFirst { bytes.append(UInt8(ascii: " ")) }
      isFirst = false
      bytes += decoded[id]
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
