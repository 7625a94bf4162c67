internal import JSON
internal import TensorFormats

extension TokenizerDefinition {
  /// What a GGUF file's metadata says, by the rules of the model family that `tokenizer.ggml.pre` names.
  ///
  /// - Throws: `.unsupported` for a name that is not supported, `.malformed` for a merge that is not a pair and for a
  ///   text that two ids have.
  init(_ tokenizer: Step3Tokenizer) throws(CheckpointError) {
    let known = try tokenizer.knownPreTokenizer
    preTokenizer = try PreTokenizer(known)
    if known.normalizes { normalizer.forms = [.nfc] }
    ignoresMerges = known.ignoresMerges
    var seen = Set<Bytewise>(minimumCapacity: tokenizer.tokens.count)
    for (id, text) in tokenizer.tokens.enumerated() {
      let type = tokenizer.types[id]
      if tokenizer.isPadding(id) { continue }
      guard seen.insert(Bytewise(text: text)).inserted else {
        throw CheckpointError(
          .malformed, "tokenizer.ggml.tokens: expected '\(text.printable)' once, found it again with id \(id)"
        )
      }
      vocabulary.append((text, id))
      if type == .control || type == .userDefined {
        addedTokens.append(AddedToken(id: id, content: text, isSpecial: type == .control))
      }
      if type == .unknown, unknownToken == nil { unknownToken = text }
      if type == .byte { usesByteFallback = true }
    }
    for merge in tokenizer.merges {
      let parts = merge.unicodeScalars.split(separator: " ", omittingEmptySubsequences: false)
      guard parts.count == 2 else {
        throw CheckpointError(
          .malformed, "tokenizer.ggml.merges: expected two tokens, found '\(merge.printable)'")
      }
      merges.append((String(parts[0]), String(parts[1])))
    }
    if tokenizer.addsBosToken, let bos = tokenizer.bosTokenID { prefix = [bos] }
    if tokenizer.addsEosToken == true, let eos = tokenizer.eosTokenIDs.first { suffix = [eos] }
  }
}

extension PreTokenizer {
  /// A division that GGUF has a name for.
  init(_ known: KnownPreTokenizer) throws(CheckpointError) {
    try self.init(JSONValue(parsing: Array(known.json.utf8)))
  }
}
