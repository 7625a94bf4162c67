internal import JSON
public import TensorFormats

/// The three tokenizer files of a Hugging Face checkpoint, created from a GGUF file's metadata.
extension Step3Tokenizer {
  /// A `tokenizer.json`: byte-level BPE with all tokens except the unused ones, which only fill ids.
  ///
  /// Control and user-defined tokens are in the vocabulary too: the `tokenizers` library renumbers added tokens that
  /// are not.
  ///
  /// - Throws: `.unsupported` for a pre-tokenizer that is not supported; `.malformed` for a text with two ids and
  ///   for a merge that is not a pair.
  public func tokenizerJSON() throws(CheckpointError) -> [UInt8] {
    let preTokenizer = try knownPreTokenizer
    var text: [UInt8] = []
    text.reserveCapacity(tokens.count * 64)
    text += Array(#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":["#.utf8)
    appendAddedTokens(to: &text)
    let normalizer = preTokenizer.normalizes ? #"{"type":"NFC"}"# : "null"
    text += Array(#"],"normalizer":\#(normalizer),"pre_tokenizer":"#.utf8)
    text += Array(preTokenizer.json.utf8)
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
    text += Array(
      #""byte_fallback":\#(types.contains(.byte)),"ignore_merges":\#(preTokenizer.ignoresMerges),"#.utf8)
    text += Array(#""vocab":{"#.utf8)
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

  /// How text is split.
  ///
  /// - Throws: `.unsupported` for a name that is not supported.
  package var knownPreTokenizer: KnownPreTokenizer {
    get throws(CheckpointError) {
      guard let known = KnownPreTokenizer.named(preTokenizer) else {
        let names = KnownPreTokenizer.all.map { $0.names[0] }
        throw CheckpointError(
          .unsupported,
          "tokenizer.ggml.pre: expected \(names.joined(separator: ", ")) or another name for one of them, found '\(preTokenizer.printable)'",
          remedy: "put the original model's tokenizer.json next to the file")
      }
      return known
    }
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
      if isPadding(id) { continue }
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

  /// Byte-level offsets; and, if tokens are added around texts, the template for that.
  private func appendPostProcessor(to text: inout [UInt8]) {
    let first = addsBosToken ? bosTokenID : nil
    let last = addsEosToken == true ? eosTokenIDs.first : nil
    guard token(first) != nil || token(last) != nil else {
      text += Array(
        #"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":false,"use_regex":false}"#.utf8)
      return
    }
    func name(_ id: Int) -> String {
      JSONText.quoted(token(id) ?? "")
    }
    func special(_ id: Int?, _ type: Int) -> [String] {
      id.map { [#"{"SpecialToken":{"id":\#(name($0)),"type_id":\#(type)}}"#] } ?? []
    }
    func around(_ sequence: String, _ type: Int) -> [String] {
      special(first, type) + [#"{"Sequence":{"id":"\#(sequence)","type_id":\#(type)}}"#] + special(last, type)
    }
    let single = around("A", 0)
    let table = Set([first, last].compactMap(\.self)).sorted().map { id in
      #"\#(name(id)):{"id":\#(name(id)),"ids":[\#(id)],"tokens":[\#(name(id))]}"#
    }
    text += Array(#"{"type":"TemplateProcessing","single":[\#(single.joined(separator: ","))],"#.utf8)
    text += Array(#""pair":[\#((single + around("B", 1)).joined(separator: ","))],"#.utf8)
    text += Array(#""special_tokens":{\#(table.joined(separator: ","))}}"#.utf8)
  }

  private func token(_ id: Int?) -> String? {
    guard let id, tokens.indices.contains(id) else { return nil }
    return tokens[id]
  }

  /// A `tokenizer_config.json`.
  ///
  /// - Parameter contextLength: The longest context, in tokens.
  public func tokenizerConfigJSON(contextLength: Int) throws(CheckpointError) -> [UInt8] {
    var object: JSONMembers = [
      "tokenizer_class": .string("PreTrainedTokenizerFast"), "add_bos_token": .bool(addsBosToken),
      "clean_up_tokenization_spaces": .bool(false), "model_max_length": .integer(contextLength),
    ]
    object["bos_token"] = token(bosTokenID).map { .string($0) }
    object["eos_token"] = token(eosTokenIDs.first).map { .string($0) }
    object["pad_token"] = token(padTokenID).map { .string($0) }
    object["add_eos_token"] = addsEosToken.map { .bool($0) }
    object["add_sep_token"] = addsSeparatorToken.map { .bool($0) }
    for special in SpecialToken.allCases {
      object["\(special.rawValue)_token"] = token(specialTokenIDs[special]).map { .string($0) }
    }
    if namedChatTemplates.isEmpty {
      object["chat_template"] = chatTemplate.map { .string($0) }
    } else {
      let usual = chatTemplate.map { [ChatTemplate(name: "default", text: $0)] } ?? []
      object["chat_template"] = .array(
        (usual + namedChatTemplates).map {
          .object(["name": .string($0.name), "template": .string($0.text)])
        })
    }
    return try JSONText.file(.object(object))
  }

  /// A `generation_config.json`: the special tokens.
  public func generationConfigJSON() throws(CheckpointError) -> [UInt8] {
    var object = JSONMembers()
    object["bos_token_id"] = bosTokenID.map { .integer($0) }
    object["pad_token_id"] = padTokenID.map { .integer($0) }
    switch eosTokenIDs.count {
    case 0: break
    case 1: object["eos_token_id"] = .integer(eosTokenIDs[0])
    default: object["eos_token_id"] = .array(eosTokenIDs.map { .integer($0) })
    }
    return try JSONText.file(.object(object))
  }
}
