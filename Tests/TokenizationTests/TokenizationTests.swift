import ByteStreams
internal import CheckpointTesting
internal import Step3Model
internal import TensorFormats
internal import Testing
internal import Tokenization

@Suite struct TokenizationTests {
  @Test func tokensAreFoundByTextAndID() throws {
    let tokenizer = try fixtureTokenizer("tiny")
    #expect(tokenizer.tokenCount == 512)
    #expect(tokenizer.idLimit == 512)
    let think = try #require(tokenizer.id(ofSpecial: "<think>"))
    #expect(tokenizer.token(think) == "<think>")
    #expect(tokenizer.id(of: "<think>") == think)
    #expect(tokenizer.id(ofSpecial: "Ġ") == nil)
    #expect(tokenizer.id(of: "Ġ").flatMap { tokenizer.token($0) } == "Ġ")
    #expect(tokenizer.id(of: "no such token") == nil)
    #expect(tokenizer.token(-1) == nil)
    #expect(tokenizer.token(512) == nil)
    #expect(tokenizer.decode([-1, 512, .max, .min]).isEmpty)
  }

  @Test func mergesApplyByRankThenFromTheLeft() throws {
    let merges = #"["b c","a b","ab c","a a","aa a"]"#
    let tokenizer = try Tokenizer(
      tokenizerJSON: document(tokens: ["bc", "ab", "abc", "aa", "aaa"], merges: merges))
    func tokens(_ text: String) throws -> [String] {
      try tokenizer.encode(text, addSpecialTokens: false).compactMap { tokenizer.token($0) }
    }
    #expect(try tokens("abc") == ["a", "bc"])
    #expect(try tokens("aab") == ["a", "ab"])
    #expect(try tokens("aaaaa") == ["aa", "aaa"])
  }

  /// JSON readers may drop it, so it is not in the fixtures.
  @Test func aLeadingByteOrderMarkIsKept() throws {
    let text = "\u{FEFF}bom"
    for name in ["gpt2", "qwen2"] {
      let tokenizer = try fixtureTokenizer(name)
      let ids = try tokenizer.encode(text, addSpecialTokens: false)
      #expect(Array(tokenizer.decode(ids).utf8) == Array(text.utf8))
    }
  }

  @Test func aVeryLongWordIsEncodedQuickly() throws {
    let tokenizer = try Tokenizer(
      tokenizerJSON: document(tokens: ["ab", "abab"], merges: #"[["a","b"],["ab","ab"]]"#))
    let text = String(repeating: "ab", count: 100_001)
    let ids = try tokenizer.encode(text, addSpecialTokens: false)
    #expect(ids == Array(repeating: 257, count: 50_000) + [256])
  }

  @Test func theWordCacheDoesNotChangeResults() throws {
    let tokenizer = try fixtureTokenizer("tiny")
    var text = ""
    for number in 0..<70_000 { text += " x\(String(number, radix: 36))" }
    let once = try tokenizer.encode(text, addSpecialTokens: false)
    #expect(try tokenizer.encode(text + text, addSpecialTokens: false) == once + once)
    #expect(tokenizer.decode(once) == text)
  }

  @Test func ggufAndDocumentEncodeAlike() throws {
    let texts = [
      "The boats that came back", "  two  spaces\n\n12345 这座房子 don't", "<|BOT|>user\n<im_patch><think>", "",
    ]
    for name in ["tiny", "odd"] {
      let path = "checkpoints/\(name)/tokenizer.json"
      var configuration = Step3Configuration(vision: nil)
      configuration.text.vocabularySize = name == "tiny" ? 512 : 500
      var stated = try Step3Tokenizer(
        tokenizerJSON: fixture(path), configuration: configuration, preTokenizer: Step3Tokenizer.deepSeekV3)
      let tokenizer = try Tokenizer(stated)
      let reference = try fixtureTokenizer(name)
      #expect(tokenizer.tokenCount == reference.tokenCount)
      for text in texts {
        let ids = try reference.encode(text, addSpecialTokens: false)
        #expect(try tokenizer.encode(text, addSpecialTokens: false) == ids)
        #expect(
          tokenizer.decode(ids, skipSpecialTokens: true) == reference.decode(ids, skipSpecialTokens: true))
      }
      stated.addsBosToken = true
      stated.bosTokenID = 0
      #expect(try Tokenizer(stated).encode("a", addSpecialTokens: true).first == 0)
      #expect(try Tokenizer(stated).encode("a", addSpecialTokens: false).count == 1)
    }
  }

  @Test func otherFamiliesAreReadFromGGUF() throws {
    var stated = SmallTokenizer.tokenizer
    stated.preTokenizer = "llama-bpe"
    // A token that no merges produce: only this family looks up whole words.
    stated.tokens.append("Ġthey")
    stated.types.append(.normal)
    stated.tokens.append("[PAD\(stated.tokens.count)]")
    stated.types.append(.unused)
    let llama = try Tokenizer(stated)
    #expect(llama.tokenCount == stated.tokens.count - 1)
    #expect(try llama.encode(" they", addSpecialTokens: false) == [stated.tokens.count - 2])
    for name in ["gpt-2", "qwen2", "deepseek-v3"] {
      stated.preTokenizer = name
      #expect(try Tokenizer(stated).encode(" they", addSpecialTokens: false).count == 2)
    }
    stated.preTokenizer = "qwen2"
    let composed = try Tokenizer(stated).encode("\u{E9}", addSpecialTokens: false)
    #expect(try Tokenizer(stated).encode("e\u{301}", addSpecialTokens: false) == composed)
    stated.preTokenizer = "default"
    #expect(throws: CheckpointError.self) { try Tokenizer(stated) }
    stated.preTokenizer = "gpt-2"
    stated.merges.append("h")
    #expect(throws: CheckpointError.self) { try Tokenizer(stated) }
    stated.merges = []
    stated.tokens[5] = stated.tokens[6]
    #expect(throws: CheckpointError.self) { try Tokenizer(stated) }
  }

  @Test func llamaClassesAddAStartToken() throws {
    let added =
      #","added_tokens":[{"id":256,"content":"<s>","special":true,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false}]"#
    let bytes = document(rest: added)
    func ids(_ configuration: String) throws -> [Int] {
      try Tokenizer(tokenizerJSON: bytes, tokenizerConfigJSON: Array(configuration.utf8))
        .encode("a", addSpecialTokens: true)
    }
    let a = 97
    #expect(try ids(#"{"tokenizer_class":"LlamaTokenizerFast","bos_token":"<s>"}"#) == [256, a])
    #expect(
      try ids(
        #"{"tokenizer_class":"LlamaTokenizerFast","bos_token":{"content":"<s>"},"eos_token":"<s>","add_eos_token":true}"#
      ) == [256, a, 256])
    #expect(try ids(#"{"tokenizer_class":"LlamaTokenizerFast","add_bos_token":false}"#) == [a])
    #expect(
      try ids(#"{"tokenizer_class":"PreTrainedTokenizerFast","add_bos_token":true,"bos_token":"<s>"}"#) == [a]
    )
    expectFailure(
      .malformed, "is not a token", bytes,
      configuration: Array(#"{"tokenizer_class":"LlamaTokenizer","bos_token":"<t>"}"#.utf8))
  }

  @Test func aDirectoryWithoutATokenizerIsAnError() throws {
    #expect(throws: CheckpointError.self) { try Tokenizer(in: DirectoryStore(Fixtures.path("ggml"))) }
  }
}
