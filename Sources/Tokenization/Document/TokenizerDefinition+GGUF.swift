internal import Step3Model
internal import TensorFormats

extension TokenizerDefinition {
  /// What a GGUF file's metadata says, by the rules of the model family that `tokenizer.ggml.pre` names.
  ///
  /// - Throws: `.unsupported` for another name than those below, `.malformed` for a merge that is no pair and for a
  ///   text that two ids have.
  init(_ tokenizer: Step3Tokenizer) throws(CheckpointError) {
    switch tokenizer.preTokenizer {
    case Step3Tokenizer.deepSeekV3:
      let json = Array(Step3Tokenizer.preTokenizerJSON.utf8)
      preTokenizer = try PreTokenizer(JSONValue.parse(json, name: "pre_tokenizer"))
    case "gpt-2": preTokenizer.lastSplit = try PreTokenizer.Split(isolating: PreTokenizer.gpt2Pattern)
    case "llama-bpe", "llama3", "llama-v3":
      preTokenizer.splits = [try PreTokenizer.Split(isolating: Self.llama3Pattern)]
      ignoresMerges = true
    case "qwen2":
      preTokenizer.splits = [try PreTokenizer.Split(isolating: Self.qwen2Pattern)]
      normalizer.forms = [.nfc]
    default:
      throw CheckpointError(
        .unsupported,
        "tokenizer.ggml.pre: expected deepseek-v3, gpt-2, llama-bpe or qwen2, found '\(tokenizer.preTokenizer.printable)'",
        remedy: "use the original model's tokenizer.json")
    }
    var seen = Set<Bytewise>(minimumCapacity: tokenizer.tokens.count)
    for (id, text) in tokenizer.tokens.enumerated() {
      let type = tokenizer.types[id]
      if type == .unused, text == Step3Tokenizer.padding(id) { continue }
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
  }

  /// How Llama 3 divides text. Source: the `pre_tokenizer` of its `tokenizer.json`.
  private static let llama3Pattern =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#

  /// How Qwen 2 divides text. Source: the `pre_tokenizer` of its `tokenizer.json`.
  private static let qwen2Pattern =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
}
