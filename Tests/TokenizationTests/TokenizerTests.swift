internal import CheckpointTesting
internal import Foundation
internal import GGUF
internal import Step3Model
internal import TensorFormats
internal import Testing
internal import Tokenization

@Suite struct TokenizerTests {
  private func fixture(_ path: String) throws -> [UInt8] {
    Array(try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("checkpoints/\(path)"))))
  }

  private func configuration(_ vocabulary: Int) -> Step3Configuration {
    var configuration = Step3Configuration(vision: nil)
    configuration.text.vocabularySize = vocabulary
    return configuration
  }

  private func read(_ json: String, size: Int, generation: String? = nil, companion: String? = nil) throws
    -> Step3Tokenizer
  {
    try Step3Tokenizer(
      tokenizerJSON: Array(json.utf8), tokenizerConfigJSON: companion.map { Array($0.utf8) },
      generationConfigJSON: generation.map { Array($0.utf8) }, configuration: configuration(size),
      preTokenizer: Step3Tokenizer.deepSeekV3)
  }

  @Test func tokensHaveTheirTypes() throws {
    let tokenizer = try read(
      #"""
      {"added_tokens": [{"id": 5, "content": "<s>", "special": true}, {"id": 6, "content": "<u>", "special": false}],
       "model": {"vocab": {"a": 0, "b": 1, "<0x0A>": 2, "<unk>": 3, "ab": 4}, "unk_token": "<unk>",
                 "merges": ["a b"], "byte_fallback": true, "type": "BPE"}}
      """#, size: 8)
    #expect(tokenizer.tokens == ["a", "b", "<0x0A>", "<unk>", "ab", "<s>", "<u>", "[PAD7]"])
    #expect(
      tokenizer.types == [
        .normal, .normal, .byte, .unknown, .normal, .control, .userDefined, .unused,
      ])
    // Without byte fallback it is ordinary text.
    let plain = try read(#"{"model": {"vocab": {"<0x0A>": 0}, "merges": []}}"#, size: 1)
    #expect(plain.types == [.normal])
  }

  @Test func bothFormsOfMergesAreRead() throws {
    let old = try read(#"{"model": {"vocab": {"a": 0, "b": 1}, "merges": ["a b", "b a"]}}"#, size: 2)
    let new = try read(
      #"{"model": {"vocab": {"a": 0, "b": 1}, "merges": [["a", "b"], ["b", "a"]]}}"#, size: 2)
    #expect(old.merges == ["a b", "b a"])
    #expect(new == old)
  }

  @Test func canonicallyEqualTokensStayDistinct() throws {
    // U+00E9, and e with U+0301: equal as Swift strings, two tokens of a vocabulary.
    let tokenizer = try read(
      "{\"model\": {\"vocab\": {\"\u{E9}\": 0, \"e\u{301}\": 1}, \"merges\": []}}", size: 2)
    #expect(tokenizer.types == [.normal, .normal])
    #expect(tokenizer.tokens.map { Array($0.utf8) } == [[0xC3, 0xA9], [0x65, 0xCC, 0x81]])
    let again = try Step3Tokenizer(
      tokenizerJSON: tokenizer.tokenizerJSON(), configuration: configuration(2),
      preTokenizer: Step3Tokenizer.deepSeekV3)
    #expect(again.tokens.map { Array($0.utf8) } == [[0xC3, 0xA9], [0x65, 0xCC, 0x81]])
  }

  @Test(arguments: [
    (#"{"model": {"vocab": {"a": 0, "b": 0}, "merges": []}}"#, "id 0"),
    (#"{"model": {"vocab": {"a": 2}, "merges": []}}"#, "below vocab_size 2"),
    (#"{"model": {"vocab": {"a": -1}, "merges": []}}"#, "negative"),
    (#"{"model": {"vocab": {"a": 0}, "merges": ["a b c"]}}"#, "two tokens"),
    (#"{"model": {"vocab": {"a": 0}, "merges": [["a", "b", "c"]]}}"#, "two tokens"),
    (#"{"model": {"vocab": {"a": 0}, "merges": [["a b", "c"]]}}"#, "two tokens"),
    (#"{"model": {"vocab": {"a": 0}, "merges": ["ab"]}}"#, "two tokens"),
    (#"{"model": {"type": "Unigram", "vocab": []}}"#, "BPE"),
    (#"{"model": {"merges": []}}"#, "vocab"),
    (#"{"added_tokens": []}"#, "model"),
    (#"{"added_tokens": [{"id": 1}], "model": {"vocab": {"a": 0}, "merges": []}}"#, "content"),
    (#"[]"#, "object"),
    (#"{"model": {"vocab": {"a": 0}, "merges": []}} x"#, "end of the JSON"),
  ])
  func invalidTokenizersAreRefused(json: String, part: String) {
    let error = #expect(throws: CheckpointError.self) { try read(json, size: 2) }
    #expect(error?.message.contains(part) == true, "\(error.map { "\($0)" } ?? "")")
    #expect(error?.message.hasPrefix("tokenizer.json: ") == true)
  }

  @Test func paddingIsBounded() {
    let error = #expect(throws: CheckpointError.self) {
      try read(#"{"model": {"vocab": {"a": 0}, "merges": []}}"#, size: 16_777_216)
    }
    #expect(error?.message.contains("vocab_size 16777216") == true)
  }

  @Test func generationConfigurationTakesPrecedence() throws {
    let model = #"{"model": {"vocab": {"a": 0, "b": 1, "c": 2}, "merges": []}}"#
    #expect(try read(model, size: 3).eosTokenIDs == [1])
    let tokenizer = try read(
      model, size: 3, generation: #"{"eos_token_id": [2, 1], "bos_token_id": 1}"#,
      companion: #"{"add_bos_token": true, "chat_template": "x"}"#)
    #expect(tokenizer.eosTokenIDs == [2, 1])
    #expect(tokenizer.bosTokenID == 1)
    #expect(tokenizer.padTokenID == nil)
    #expect(tokenizer.addsBosToken)
    #expect(tokenizer.chatTemplate == "x")
    // Values that it lacks come from the model's configuration.
    #expect(try read(model, size: 3, generation: "{}").eosTokenIDs == [1])
    #expect(throws: CheckpointError.self) { try read(model, size: 3, generation: #"{"eos_token_id": 3}"#) }
  }

  @Test(arguments: ["tiny", "odd"])
  func tokenizersAreRebuiltFromGGUF(preset: String) throws {
    let configuration = try Step3Configuration(configJSON: fixture("\(preset)/config.json"))
    let original = try Step3Tokenizer(
      tokenizerJSON: fixture("\(preset)/tokenizer.json"),
      tokenizerConfigJSON: fixture("\(preset)/tokenizer_config.json"),
      generationConfigJSON: fixture("\(preset)/generation_config.json"), configuration: configuration,
      preTokenizer: Step3Tokenizer.deepSeekV3)
    #expect(original.eosTokenIDs.count == 2)
    var metadata = GGUFMetadata()
    original.write(to: &metadata)
    let read = try #require(try Step3Tokenizer(metadata: metadata))
    #expect(read == original)
    let rebuilt = try read.tokenizerJSON()
    let again = try Step3Tokenizer(
      tokenizerJSON: rebuilt, tokenizerConfigJSON: read.tokenizerConfigJSON(contextLength: 65_536),
      generationConfigJSON: read.generationConfigJSON(), configuration: configuration,
      preTokenizer: Step3Tokenizer.deepSeekV3)
    #expect(again == original)

    // The other members that the tokenizers library reads equal the published file's.
    func object(_ bytes: [UInt8]) throws -> NSDictionary {
      try #require(JSONSerialization.jsonObject(with: Data(bytes)) as? NSDictionary)
    }
    let (made, published) = (try object(rebuilt), try object(fixture("\(preset)/tokenizer.json")))
    for key in ["version", "pre_tokenizer", "post_processor", "decoder", "added_tokens", "normalizer"] {
      #expect(made[key] as? NSObject == published[key] as? NSObject, "\(key)")
    }
    let (model, publishedModel) = (
      try #require(made["model"] as? NSDictionary), try #require(published["model"] as? NSDictionary)
    )
    #expect(Set(model.allKeys as? [String] ?? []) == Set(publishedModel.allKeys as? [String] ?? []))
    let companion = try object(read.tokenizerConfigJSON(contextLength: 65_536))
    #expect(companion == (try object(fixture("\(preset)/tokenizer_config.json"))))
    #expect(
      try object(read.generationConfigJSON()) == object(fixture("\(preset)/generation_config.json")))
  }

  @Test func theStartTokenIsAdded() throws {
    var tokenizer = SmallTokenizer.tokenizer
    tokenizer.addsBosToken = true
    let json = String(decoding: try tokenizer.tokenizerJSON(), as: UTF8.self)
    #expect(json.contains(#""type":"TemplateProcessing""#))
    #expect(json.contains(#""ids":[0]"#))
    #expect(try JSONSerialization.jsonObject(with: Data(json.utf8)) is NSDictionary)
  }

  @Test func metadataThatCannotBeRebuiltIsRefused() throws {
    var foreign = SmallTokenizer.tokenizer
    foreign.preTokenizer = "kimi-k2"
    #expect(throws: CheckpointError.self) { try foreign.tokenizerJSON() }
    var twice = SmallTokenizer.tokenizer
    twice.tokens[9] = twice.tokens[8]
    #expect(throws: CheckpointError.self) { try twice.tokenizerJSON() }
    var metadata = GGUFMetadata()
    SmallTokenizer.tokenizer.write(to: &metadata)
    metadata.set("tokenizer.ggml.model", .string("llama"))
    #expect(throws: CheckpointError.self) { try Step3Tokenizer(metadata: metadata) }
    metadata.set("tokenizer.ggml.model", .string("gpt2"))
    metadata.set("tokenizer.ggml.token_type", .array(.int32([7])))
    #expect(throws: CheckpointError.self) { try Step3Tokenizer(metadata: metadata) }
  }

  /// As many tokens and merges as the published tokenizer. Prints the time, a fraction of a second.
  @Test func aTokenizerOfPublishedSizeIsRead() throws {
    let size = 128_815
    let tokens = (0..<size).map { "Ġtoken\($0)" }
    let merges = (0..<127_741).map { "Ġtoken\($0) \($0)" }
    let tokenizer = Step3Tokenizer(
      tokens: tokens, types: Array(repeating: .normal, count: size), merges: merges)
    let clock = ContinuousClock()
    let begin = clock.now
    let json = try tokenizer.tokenizerJSON()
    let written = clock.now
    let read = try Step3Tokenizer(
      tokenizerJSON: json, configuration: configuration(size), preTokenizer: "deepseek-v3")
    print(
      "tokenizer.json of \(json.count) bytes: written in \(written - begin), read in \(clock.now - written)")
    #expect(read.tokens == tokens)
    #expect(read.merges == merges)
  }
}
