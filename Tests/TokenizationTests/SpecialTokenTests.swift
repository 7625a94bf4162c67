internal import Foundation
internal import GGUF
internal import Step3Model
internal import TensorFormats
internal import Testing
internal import Tokenization

/// Special tokens, templates and contradictions between a tokenizer's files. How `gguf` and `transformers` treat
/// such files is tested in `Tests/Interop/test_tokenizer.py`.
@Suite struct SpecialTokenTests {
  private static let model =
    #""model": {"vocab": {"a": 0, "b": 1, "c": 2}, "merges": []}, "added_tokens": [\#(added("<s>", 3)), \#(added("</s>", 4)), \#(added("<e>", 5)), \#(added("<m>", 6)), \#(added("<x>", 7))]"#

  private static func added(_ text: String, _ id: Int, special: Bool = true) -> String {
    #"{"id": \#(id), "content": "\#(text)", "special": \#(special)}"#
  }

  private func read(
    _ json: String = "{\(model)}", size: Int = 12, companion: String? = nil, generation: String? = nil,
    config: String? = nil, configure: (inout Step3Tokenizer.Documents) -> Void = { _ in }
  ) throws -> Step3Tokenizer {
    var configuration = Step3Configuration(vision: nil, bosTokenID: nil, eosTokenIDs: [], padTokenID: nil)
    configuration.text.vocabularySize = size
    var documents = Step3Tokenizer.Documents(tokenizer: Array(json.utf8))
    documents.tokenizerConfiguration = companion.map { Array($0.utf8) }
    documents.generationConfiguration = generation.map { Array($0.utf8) }
    documents.modelConfiguration = config.map { Array($0.utf8) }
    configure(&documents)
    return try Step3Tokenizer(documents, configuration: configuration, preTokenizer: "deepseek-v3")
  }

  private func metadata(_ tokenizer: Step3Tokenizer) -> GGUFMetadata {
    var metadata = GGUFMetadata()
    tokenizer.write(to: &metadata)
    return metadata
  }

  // MARK: Ids

  @Test func tokensMayBeNamedByTextOrObject() throws {
    let tokenizer = try read(
      companion: #"""
        {"bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": "<x>", "unk_token": "a",
         "sep_token": "<e>", "mask_token": {"content": "<m>"}, "fim_pre_token": "<e>", "add_eos_token": true}
        """#, generation: #"{"bos_token_id": 0, "eos_token_id": [5, 4], "pad_token_id": -1}"#)
    #expect(tokenizer.bosTokenID == 3)
    #expect(tokenizer.eosTokenIDs == [4, 5])
    #expect(tokenizer.padTokenID == 7)
    #expect(tokenizer.specialTokenIDs == [.unknown: 0, .separator: 5, .mask: 6, .fillPrefix: 5])
    #expect(tokenizer.addsEosToken == true && !tokenizer.addsBosToken)
    // Named as a special token, so it is one, whatever the vocabulary says.
    #expect(tokenizer.types[0] == .control)
    let keys = metadata(tokenizer)
    #expect(keys["tokenizer.ggml.unknown_token_id"] == .uint32(0))
    #expect(keys["tokenizer.ggml.seperator_token_id"] == .uint32(5))
    #expect(keys["tokenizer.ggml.mask_token_id"] == .uint32(6))
    #expect(keys["tokenizer.ggml.fim_pre_token_id"] == .uint32(5))
    #expect(keys["tokenizer.ggml.add_eos_token"] == .bool(true))
    #expect(try Step3Tokenizer(metadata: keys) == tokenizer)
    let companion = String(decoding: try tokenizer.tokenizerConfigJSON(contextLength: 8), as: UTF8.self)
    for part in [#""mask_token" : "<m>""#, #""unk_token" : "a""#, #""add_eos_token" : true"#] {
      #expect(companion.contains(part), "\(part)")
    }
    #expect(
      try read(config: #"{"sep_token_id": -1, "text_config": {"mask_token_id": 6}}"#).specialTokenIDs == [
        .mask: 6
      ])
  }

  @Test func endTokensBeyondThreeAreNoted() throws {
    let tokenizer = try read(
      companion: #"{"eos_token": "</s>"}"#, generation: #"{"eos_token_id": [5, 4, 6, 7, 3]}"#)
    #expect(tokenizer.eosTokenIDs == [4, 5, 6, 7, 3])
    let keys = metadata(tokenizer)
    #expect(keys["tokenizer.ggml.eos_token_id"] == .uint32(4))
    #expect(keys["tokenizer.ggml.eot_token_id"] == .uint32(5))
    #expect(keys["tokenizer.ggml.eom_token_id"] == .uint32(6))
    #expect(tokenizer.notes.map(\.what) == ["end token 7 ('<x>'), 3 ('<s>')"])
    #expect(try read(generation: #"{"eos_token_id": [5, 4, 6]}"#).notes.isEmpty)
  }

  @Test(arguments: ["bos", "eos", "pad"])
  func negativeMeansNone(_ kind: String) throws {
    let key = "\(kind)_token_id"
    for (root, text) in [(#""\#(key)": -1,"#, ""), ("", #""\#(key)": -100,"#)] {
      let json = Step3ConfigurationText.nested(root: root, text: text)
      let configuration = try Step3Configuration(configJSON: Array(json.utf8))
      #expect(
        configuration.bosTokenID == nil && configuration.eosTokenIDs == [] && configuration.padTokenID == nil)
    }
    let tokenizer = try read(generation: #"{"\#(key)": -1}"#)
    #expect(tokenizer.bosTokenID == nil && tokenizer.eosTokenIDs == [] && tokenizer.padTokenID == nil)
    // As files write -1 into an unsigned field.
    var keys = metadata(try read())
    let ggufKey = kind == "pad" ? "tokenizer.ggml.padding_token_id" : "tokenizer.ggml.\(key)"
    for value in [GGUFValue.int32(-1), .uint32(.max), .int64(-1)] {
      keys.set(ggufKey, value)
      let read = try #require(try Step3Tokenizer(metadata: keys))
      #expect(read.bosTokenID == nil && read.eosTokenIDs == [] && read.padTokenID == nil)
    }
    // An id beyond the vocabulary is still an error, with the right file.
    let error = #expect(throws: CheckpointError.self) { try read(generation: #"{"\#(key)": 12}"#) }
    #expect(error?.message.hasPrefix("generation_config.json: \(key): ") == true)
  }

  @Test func namesWithoutTokensAreHandled() throws {
    let tokenizer = try read(
      companion: #"{"bos_token": "<none>", "cls_token": "<m>"}"#,
      generation: #"{"bos_token_id": 3, "eos_token_id": 9}"#)
    #expect(tokenizer.bosTokenID == 3)
    #expect(
      tokenizer.notes.map(\.what) == ["cls token 6", "bos token '<none>'", "special token 9"])
  }

  // MARK: Tokens around texts

  private func template(_ single: [String], pair: [String] = []) -> String {
    func pieces(_ names: [String]) -> String {
      names.map { name in
        name.count == 1
          ? #"{"Sequence": {"id": "\#(name)", "type_id": 0}}"#
          : #"{"SpecialToken": {"id": "\#(name)", "type_id": 0}}"#
      }.joined(separator: ",")
    }
    return
      #"{\#(Self.model), "post_processor": {"type": "TemplateProcessing", "single": [\#(pieces(single))], "pair": [\#(pieces(pair))]}}"#
  }

  private static let named = #"{"bos_token": "<s>", "eos_token": "</s>"}"#

  @Test func templatesAddTokensAroundTexts() throws {
    let both = try read(
      template(["<s>", "A", "</s>"], pair: ["<s>", "A", "</s>", "<s>", "B", "</s>"]), companion: Self.named)
    #expect(both.addsBosToken && both.addsEosToken == true && both.notes.isEmpty)
    let start = try read(template(["<s>", "A"]), companion: Self.named)
    #expect(start.addsBosToken && start.addsEosToken == nil)
    // tokenizer_config.json takes precedence.
    let stated = try read(
      template(["<s>", "A"]),
      companion: #"{"bos_token": "<s>", "add_bos_token": false, "add_eos_token": false}"#)
    #expect(!stated.addsBosToken && stated.addsEosToken == false)
    // Without that file the template names the tokens.
    let alone = try read(template(["<s>", "A", "<e>"]))
    #expect(
      alone.bosTokenID == 3 && alone.eosTokenIDs == [5] && alone.addsBosToken && alone.addsEosToken == true)
    // An end token other than the named one: both end a text, and the template's is the one added.
    let other = try read(template(["A", "<e>"]), companion: Self.named)
    #expect(other.eosTokenIDs == [5, 4] && other.addsEosToken == true)
    // A separator between two texts.
    let pair = try read(template(["<s>", "A"], pair: ["<s>", "A", "</s>", "B"]), companion: Self.named)
    #expect(pair.addsSeparatorToken == true && pair.specialTokenIDs[.separator] == 4)
  }

  @Test func unusualTemplatesAreNoted() throws {
    let two = try read(template(["<s>", "<m>", "A"]), companion: Self.named)
    #expect(two.addsBosToken && two.notes.count == 1)
    #expect(two.notes.first?.what.contains("'<s>', '<m>', text A") == true)
    let foreign = try read(template(["<m>", "A"]), companion: Self.named)
    #expect(!foreign.addsBosToken && foreign.notes.count == 1)
    let bert = try read(#"{\#(Self.model), "post_processor": {"type": "BertProcessing"}}"#)
    #expect(bert.notes.map(\.what) == ["post_processor BertProcessing"])
    let unknown = try read(companion: #"{"add_bos_token": true, "add_eos_token": true}"#)
    #expect(!unknown.addsBosToken && unknown.addsEosToken == false && unknown.notes.count == 2)
  }

  @Test func tokensAroundTextsRoundTrip() throws {
    let both = try read(
      template(["<s>", "A", "</s>"], pair: ["<s>", "A", "</s>", "<s>", "B", "</s>"]), companion: Self.named)
    let written = try both.tokenizerJSON()
    let again = try read(
      String(decoding: written, as: UTF8.self),
      companion: String(decoding: both.tokenizerConfigJSON(contextLength: 8), as: UTF8.self))
    #expect(again == both)
    // Without the other file the template alone determines it.
    let alone = try read(String(decoding: written, as: UTF8.self))
    #expect(
      alone.addsBosToken && alone.addsEosToken == true && alone.bosTokenID == 3 && alone.eosTokenIDs == [4])
  }

  // MARK: Chat templates

  @Test func listsOfChatTemplatesAreRead() throws {
    let tokenizer = try read(
      companion: #"""
        {"chat_template": [{"name": "tool-use", "template": "T"}, {"name": "default", "template": "D"},
                           {"name": "tool_use", "template": "U"}, {"name": "", "template": "N"}]}
        """#)
    #expect(tokenizer.chatTemplate == "D")
    #expect(tokenizer.namedChatTemplates == [.init(name: "tool_use", text: "T")])
    #expect(tokenizer.notes.map(\.what) == ["chat template 'tool_use'", "chat template ''"])
    let keys = metadata(tokenizer)
    #expect(keys["tokenizer.chat_template"] == .string("D"))
    #expect(keys["tokenizer.chat_template.tool_use"] == .string("T"))
    #expect(keys["tokenizer.chat_templates"] == .array(.string(["tool_use"])))
    let read = try #require(try Step3Tokenizer(metadata: keys))
    #expect(read.namedChatTemplates == tokenizer.namedChatTemplates && read.chatTemplate == "D")
    let written = try self.read(
      companion: String(decoding: read.tokenizerConfigJSON(contextLength: 8), as: UTF8.self))
    #expect(written.namedChatTemplates == read.namedChatTemplates && written.chatTemplate == "D")
  }

  @Test func filesOfChatTemplatesAreRead() throws {
    let json = Array(#"{"chat_template": "J"}"#.utf8)
    #expect(try read { $0.chatTemplateJSON = json }.chatTemplate == "J")
    #expect(
      try read(companion: #"{"chat_template": null}"#) { $0.chatTemplateJSON = json }.chatTemplate == "J")
    let all = try read(companion: #"{"chat_template": "C"}"#) {
      $0.chatTemplate = Array("X".utf8)
      $0.chatTemplateJSON = json
      $0.namedChatTemplates = [("rag", Array("R".utf8)), ("tool use", Array("T".utf8))]
    }
    #expect(all.chatTemplate == "X")
    #expect(all.namedChatTemplates.map(\.name) == ["rag", "tool_use"])
    #expect(
      all.notes.map(\.what) == [
        "chat template of tokenizer_config.json", "chat template of chat_template.json",
      ])
    // The same template twice loses nothing.
    let same = try read(companion: #"{"chat_template": "X"}"#) { $0.chatTemplate = Array("X".utf8) }
    #expect(same.chatTemplate == "X" && same.notes.isEmpty)
    #expect(
      try read(companion: #"{"chat_template": "C"}"#) { $0.chatTemplateJSON = json }.chatTemplate == "C")
  }

  @Test(arguments: [
    #"{"chat_template": 1}"#, #"{"chat_template": [{"name": "x"}]}"#, #"{"chat_template": {"a": 1}}"#,
  ])
  func brokenChatTemplatesAreRefused(_ companion: String) {
    let error = #expect(throws: CheckpointError.self) { try read(companion: companion) }
    #expect(error?.message.hasPrefix("tokenizer_config.json: chat_template") == true)
    let jinja = #expect(throws: CheckpointError.self) { try read { $0.chatTemplate = [0xFF] } }
    #expect(jinja?.message.hasPrefix("chat_template.jinja: ") == true)
  }

  // MARK: Contradictions

  @Test func repeatedTextsInTheVocabularyAreHandled() throws {
    let tokenizer = try read(#"{"model": {"vocab": {"a": 0, "b": 1, "a": 2}, "merges": []}}"#, size: 3)
    #expect(tokenizer.tokens == ["[PAD0]", "b", "a"])
    #expect(tokenizer.types == [.unused, .normal, .normal])
    #expect(tokenizer.notes.map(\.what) == ["token 'a' (0 and 2)"])
  }

  @Test func addedTokensInTheVocabularyAreMerged() throws {
    func tokens(_ added: String, size: Int = 6) throws -> ([String], [String]) {
      let tokenizer = try read(
        #"{"added_tokens": [\#(added)], "model": {"vocab": {"a": 0, "b": 1, "c": 2}, "merges": []}}"#,
        size: size)
      return (tokenizer.tokens, tokenizer.notes.map(\.what))
    }
    // At its own id: only its type changes.
    #expect(try tokens(Self.added("b", 1), size: 3) == (["a", "b", "c"], []))
    // At another id: the text keeps the vocabulary's id.
    #expect(
      try tokens(Self.added("b", 5)) == (
        ["a", "b", "c", "[PAD3]", "[PAD4]", "[PAD5]"], ["token 'b' (5, now 1)"]
      ))
    // At the id of another text, which keeps it.
    #expect(
      try tokens(Self.added("<s>", 1)) == (
        ["a", "b", "c", "<s>", "[PAD4]", "[PAD5]"], ["token '<s>' (1, now 3)"]
      ))
    #expect(
      try tokens(Self.added("<s>", 3) + "," + Self.added("<s>", 4))
        == (["a", "b", "c", "<s>", "[PAD4]", "[PAD5]"], ["token '<s>' (4, now 3)"]))
    let error = #expect(throws: CheckpointError.self) { try tokens(Self.added("<s>", 1), size: 3) }
    #expect(error?.message.contains("'<s>' has id 1, which another token has") == true)
    let beyond = #expect(throws: CheckpointError.self) { try tokens(Self.added("<s>", 3), size: 3) }
    #expect(beyond?.message.contains("added token '<s>': expected an id below vocab_size 3, found 3") == true)
  }

  @Test func paddingDoesNotRepeatAText() throws {
    let tokenizer = try read(#"{"model": {"vocab": {"[PAD1]": 0, "[PAD2]": 3}, "merges": []}}"#, size: 4)
    #expect(tokenizer.tokens == ["[PAD1]", "[PAD1]_", "[PAD2]_", "[PAD2]"])
    let again = try read(String(decoding: tokenizer.tokenizerJSON(), as: UTF8.self), size: 4)
    #expect(again == tokenizer)
  }

  @Test func addedTokensOfTheConfigurationAreUsed() throws {
    let tokenizer = try read(
      companion:
        #"{"added_tokens_decoder": {"8": {"content": "<new>", "special": false}, "5": {"content": "<e>", "special": false}}, "additional_special_tokens": ["<new>"]}"#
    )
    #expect(tokenizer.tokens[8] == "<new>" && tokenizer.types[8] == .control)
    #expect(tokenizer.types[5] == .userDefined)
    #expect(tokenizer.notes.isEmpty)
    let error = #expect(throws: CheckpointError.self) {
      try read(companion: #"{"added_tokens_decoder": {"12": {"content": "<new>"}}}"#)
    }
    #expect(error?.message.hasPrefix("tokenizer_config.json: added_tokens_decoder.") == true)
  }

  @Test(arguments: KnownPreTokenizer.all)
  func everyKnownPreTokenizerIsWritten(_ known: KnownPreTokenizer) throws {
    for name in known.names {
      var tokenizer = try read()
      tokenizer.preTokenizer = name
      let object = try #require(
        JSONSerialization.jsonObject(with: Data(tokenizer.tokenizerJSON())) as? [String: Any])
      let model = try #require(object["model"] as? [String: Any])
      #expect(model["ignore_merges"] as? Bool == known.ignoresMerges)
      #expect((object["normalizer"] as? [String: Any] != nil) == known.normalizes)
    }
  }
}

/// The smallest possible `config.json` of a Step-3.
private enum Step3ConfigurationText {
  static func nested(root: String, text: String) -> String {
    #"{"model_type": "step3_vl", \#(root) "text_config": {\#(text) "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "head_dim": 16, "share_q_dim": 32, "vocab_size": 96, "moe_layers_enum": []}}"#
  }
}
