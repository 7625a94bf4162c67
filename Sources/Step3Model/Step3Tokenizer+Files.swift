internal import Safetensors
public import TensorFormats

/// The three files beside a Hugging Face checkpoint, from what a GGUF file knows.
extension Step3Tokenizer {
  /// A `tokenizer.json`: byte-level BPE with all tokens but the unused ones, which only fill ids.
  ///
  /// Control and user-defined tokens stand in the vocabulary too: the `tokenizers` library numbers added tokens that
  /// it does not find there anew.
  ///
  /// - Throws: `.unsupported` for another pre-tokenizer than DeepSeek-V3's; `.malformed` for a text that two ids have
  ///   and for a merge that is no pair.
  public func tokenizerJSON() throws(CheckpointError) -> [UInt8] {
    guard preTokenizer == Self.deepSeekV3 else {
      throw CheckpointError(
        .unsupported,
        "tokenizer.ggml.pre: expected '\(Self.deepSeekV3)', found '\(preTokenizer.printable)'",
        remedy: "take tokenizer.json from the original model")
    }
    var text: [UInt8] = []
    text.reserveCapacity(tokens.count * 64)
    text += Array(#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":["#.utf8)
    appendAddedTokens(to: &text)
    text += Array(#"],"normalizer":null,"pre_tokenizer":"#.utf8)
    text += Array(Self.preTokenizerJSON.utf8)
    text += Array(#","post_processor":"#.utf8)
    appendPostProcessor(to: &text)
    text += Array(#","decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"#.utf8)
    text += Array(#""use_regex":true},"model":{"type":"BPE","dropout":null,"unk_token":"#.utf8)
    if let unknown = types.firstIndex(of: .unknown) {
      JSONText.append(tokens[unknown], to: &text, style: .minimal)
    } else {
      text += Array("null".utf8)
    }
    text += Array(#","continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"#.utf8)
    text += Array(#""byte_fallback":\#(types.contains(.byte)),"ignore_merges":false,"vocab":{"#.utf8)
    try appendVocabulary(to: &text)
    text += Array(#"},"merges":["#.utf8)
    for (index, merge) in merges.enumerated() {
      guard Self.isPair(merge) else {
        throw CheckpointError(
          .malformed, "tokenizer.ggml.merges: expected two tokens, found '\(merge.printable)'")
      }
      if index > 0 { text.append(UInt8(ascii: ",")) }
      JSONText.append(merge, to: &text, style: .minimal)
    }
    text += Array("]}}\n".utf8)
    return text
  }

  private func appendAddedTokens(to text: inout [UInt8]) {
    var isFirst = true
    for (id, type) in types.enumerated() where type == .control || type == .userDefined {
      if !isFirst { text.append(UInt8(ascii: ",")) }
      isFirst = false
      text += Array(#"{"id":\#(id),"content":"#.utf8)
      JSONText.append(tokens[id], to: &text, style: .minimal)
      text += Array(#","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"#.utf8)
      text += Array(#""special":\#(type == .control)}"#.utf8)
    }
  }

  private func appendVocabulary(to text: inout [UInt8]) throws(CheckpointError) {
    var seen = Set<Bytewise>(minimumCapacity: tokens.count)
    for (id, token) in tokens.enumerated() {
      if types[id] == .unused, token == Self.padding(id) { continue }
      guard seen.insert(Bytewise(text: token)).inserted else {
        throw CheckpointError(
          .malformed,
          "tokenizer.ggml.tokens: expected '\(token.printable)' once, found it again with id \(id)")
      }
      if seen.count > 1 { text.append(UInt8(ascii: ",")) }
      JSONText.append(token, to: &text, style: .minimal)
      text += Array(":\(id)".utf8)
    }
  }

  /// Byte-level offsets; and, if texts start with a token, that token in front.
  private func appendPostProcessor(to text: inout [UInt8]) {
    guard addsBosToken, let bos = token(bosTokenID) else {
      text += Array(
        #"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}"#.utf8)
      return
    }
    var quoted: [UInt8] = []
    JSONText.append(bos, to: &quoted, style: .minimal)
    let name = String(decoding: quoted, as: UTF8.self)
    func special(_ type: Int) -> String { #"{"SpecialToken":{"id":\#(name),"type_id":\#(type)}}"# }
    func sequence(_ id: String, _ type: Int) -> String { #"{"Sequence":{"id":"\#(id)","type_id":\#(type)}}"# }
    let single = "\(special(0)),\(sequence("A", 0))"
    text += Array(#"{"type":"TemplateProcessing","single":[\#(single)],"#.utf8)
    text += Array(#""pair":[\#(single),\#(special(1)),\#(sequence("B", 1))],"special_tokens":{"#.utf8)
    text += Array(#"\#(name):{"id":\#(name),"ids":[\#(bosTokenID ?? 0)],"tokens":[\#(name)]}}}"#.utf8)
  }

  private func token(_ id: Int?) -> String? {
    guard let id, tokens.indices.contains(id) else { return nil }
    return tokens[id]
  }

  /// A `tokenizer_config.json`.
  ///
  /// - Parameter contextLength: The longest context, in tokens.
  public func tokenizerConfigJSON(contextLength: Int) throws(CheckpointError) -> [UInt8] {
    var object: [String: JSONValue] = [
      "tokenizer_class": .string("PreTrainedTokenizerFast"), "add_bos_token": .bool(addsBosToken),
      "clean_up_tokenization_spaces": .bool(false), "model_max_length": .integer(contextLength),
    ]
    object["bos_token"] = token(bosTokenID).map { .string($0) }
    object["eos_token"] = token(eosTokenIDs.first).map { .string($0) }
    object["pad_token"] = token(padTokenID).map { .string($0) }
    object["chat_template"] = chatTemplate.map { .string($0) }
    return try JSONValue.object(object).serialized()
  }

  /// A `generation_config.json`: the special tokens.
  public func generationConfigJSON() throws(CheckpointError) -> [UInt8] {
    var object: [String: JSONValue] = [:]
    object["bos_token_id"] = bosTokenID.map { .integer($0) }
    object["pad_token_id"] = padTokenID.map { .integer($0) }
    switch eosTokenIDs.count {
    case 0: break
    case 1: object["eos_token_id"] = .integer(eosTokenIDs[0])
    default: object["eos_token_id"] = .array(eosTokenIDs.map { .integer($0) })
    }
    return try JSONValue.object(object).serialized()
  }

  /// How DeepSeek-V3 divides text: digits by three, runs of Chinese characters and kana, then words, punctuation and
  /// white space.
  ///
  /// Source: the `pre_tokenizer` of DeepSeek-V3's `tokenizer.json`.
  package static let preTokenizerJSON = ##"""
    {"type":"Sequence","pretokenizers":[
    {"type":"Split","pattern":{"Regex":"\\p{N}{1,3}"},"behavior":"Isolated","invert":false},
    {"type":"Split","pattern":{"Regex":"[一-龥぀-ゟ゠-ヿ]+"},"behavior":"Isolated","invert":false},
    {"type":"Split","pattern":{"Regex":"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"},"behavior":"Isolated","invert":false},
    {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]}
    """##
}
