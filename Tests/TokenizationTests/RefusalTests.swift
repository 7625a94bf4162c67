internal import CheckpointTesting
internal import TensorFormats
internal import Testing
internal import Tokenization

/// What reading a tokenizer refuses, and how it is named.
@Suite struct RefusalTests {
  private func added(_ id: Int, _ content: String, special: Bool = false, normalized: Bool = false) -> String
  {
    #"{"id":\#(id),"content":\#(quoted(content)),"special":\#(special),"single_word":false,"lstrip":false,"rstrip":false,"normalized":\#(normalized)}"#
  }

  private func model(_ text: String) -> [UInt8] {
    Array(#"{"pre_tokenizer":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"},"model":\#(text)}"#.utf8)
  }

  @Test func invalidVocabulariesAreRefused() {
    expectFailure(.malformed, "expected one token with id 0", model(#"{"vocab":{"a":0,"b":0},"merges":[]}"#))
    expectFailure(.malformed, "expected 'a' once", model(#"{"vocab":{"a":0,"a":1},"merges":[]}"#))
    expectFailure(.malformed, "near the number of tokens", model(#"{"vocab":{"a":2000000000},"merges":[]}"#))
    expectFailure(.malformed, "expected an id of at most", model(#"{"vocab":{"a":4294967296},"merges":[]}"#))
    expectFailure(.malformed, "larger than", model(#"{"vocab":{"a":99999999999999999999},"merges":[]}"#))
    expectFailure(.malformed, "negative", model(#"{"vocab":{"a":-1},"merges":[]}"#))
    expectFailure(.malformed, "whole number", model(#"{"vocab":{"a":1.5},"merges":[]}"#))
    expectFailure(.malformed, "expected vocab and merges", model(#"{"vocab":{"a":0}}"#))
    expectFailure(.malformed, "'vocab' appears twice", model(#"{"vocab":{},"merges":[],"vocab":{}}"#))
  }

  @Test func mergesOfUnknownTokensAreRefused() {
    expectFailure(.malformed, "'x' is not in", model(#"{"vocab":{"a":0},"merges":["x a"]}"#))
    expectFailure(
      .malformed, "number 1: 'ab' is not in", model(#"{"vocab":{"a":0,"aa":1,"b":2},"merges":["a a","a b"]}"#)
    )
    expectFailure(.malformed, "expected two tokens", model(#"{"vocab":{"a":0},"merges":["a"]}"#))
    expectFailure(.malformed, "expected two tokens", model(#"{"vocab":{"a":0},"merges":["a a a"]}"#))
    expectFailure(.malformed, "expected two tokens", model(#"{"vocab":{"a":0},"merges":[["a"]]}"#))
    expectFailure(.malformed, "expected two tokens", model(#"{"vocab":{"a":0},"merges":[["a","a","a"]]}"#))
    expectFailure(.malformed, "a merge", model(#"{"vocab":{"a":0},"merges":[1]}"#))
    expectFailure(.malformed, "unk_token", model(#"{"vocab":{"a":0},"merges":[],"unk_token":"<unk>"}"#))
  }

  @Test func unknownModelsAreRefused() {
    expectFailure(.unsupported, "Unigram", model(#"{"type":"Unigram","vocab":{},"merges":[]}"#))
    expectFailure(.unsupported, "continuing_subword_prefix", model(#"{"continuing_subword_prefix":"@@"}"#))
    expectFailure(.unsupported, "end_of_word_suffix", model(#"{"end_of_word_suffix":"</w>"}"#))
    expectFailure(.unsupported, "dropout", model(#"{"dropout":0.1}"#))
    expectFailure(.malformed, "expected a model", Array(#"{"version":"1.0"}"#.utf8))
    expectFailure(.unsupported, "version", Array(#"{"version":"2.0"}"#.utf8))
    for text in ["", "[]", "{", "null", #"{"model":"#, #"{"model":{"vocab":[]}}"#] {
      expectFailure(.malformed, "tokenizer.json", Array(text.utf8))
    }
  }

  @Test func invalidAddedTokensAreRefused() {
    func tokens(_ list: String...) -> [UInt8] {
      document(rest: #","added_tokens":[\#(list.joined(separator: ","))]"#)
    }
    expectFailure(.malformed, "expected id 256", tokens(added(300, "<s>")))
    expectFailure(.malformed, "expected id 97", tokens(added(256, "a")))
    expectFailure(.malformed, "appears twice", tokens(added(256, "<s>"), added(256, "<s>", special: true)))
    expectFailure(.malformed, "expected id 257", tokens(added(256, "<s>"), added(256, "<t>")))
    expectFailure(
      .malformed, "expected 'lstrip'",
      tokens(#"{"id":256,"content":"<s>","special":true,"single_word":false}"#))
    expectFailure(.unsupported, "at most 1024 bytes", tokens(added(256, String(repeating: "x", count: 1025))))
    let normalized = [added(256, "\u{212B}", normalized: true), added(257, "A\u{30A}", normalized: true)]
    expectFailure(
      .malformed, "normalised text once",
      document(rest: #","normalizer":{"type":"NFC"},"added_tokens":[\#(normalized.joined(separator: ","))]"#))
  }

  @Test func unknownStepsAreRefused() {
    expectFailure(.unsupported, "Lowercase", document(rest: #","normalizer":{"type":"Lowercase"}"#))
    expectFailure(
      .unsupported, "normalizers[1].type: 'Strip'",
      document(rest: #","normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Strip"}]}"#))
    expectFailure(.unsupported, "found nothing", document(preTokenizer: "null"))
    expectFailure(.unsupported, "found Whitespace", document(preTokenizer: #"{"type":"Whitespace"}"#))
    expectFailure(
      .unsupported, "pretokenizers[0].type: 'Metaspace'",
      document(
        preTokenizer: #"{"type":"Sequence","pretokenizers":[{"type":"Metaspace"},{"type":"ByteLevel"}]}"#))
    expectFailure(
      .unsupported, "BertProcessing", document(rest: #","post_processor":{"type":"BertProcessing"}"#))
    expectFailure(.malformed, "single", document(rest: #","post_processor":{"type":"TemplateProcessing"}"#))
    expectFailure(
      .malformed, "expected the id of a token, found 999",
      document(
        rest:
          #","post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"x":{"id":"x","ids":[999],"tokens":["x"]}}}"#
      ))
    let many = String(repeating: "97,", count: 200) + "97"
    let piece = #"{"SpecialToken":{"id":"x","type_id":0}}"#
    expectFailure(
      .unsupported, "more than 256 tokens around every text",
      document(
        rest:
          #","post_processor":{"type":"TemplateProcessing","single":[\#(piece),{"Sequence":{"id":"A","type_id":0}},\#(piece)],"special_tokens":{"x":{"id":"x","ids":[\#(many)],"tokens":["x"]}}}"#
      ))
    let decoder = Array(
      #"{"pre_tokenizer":{"type":"ByteLevel"},"decoder":{"type":"Fuse"},"model":{"vocab":{},"merges":[]}}"#
        .utf8)
    expectFailure(.unsupported, "decoder.type: 'Fuse'", decoder)
  }

  @Test(arguments: [
    #"\w"#, #"\bx"#, #"\pL"#, #"\p{Han}"#, #"\p{Cs}"#, #"[[:alpha:]]"#, #"[]a]"#, #"a{"#, #"(?i:é)"#,
    #"(?i:\p{L})"#,
    #"(a)\1"#, #"(?<n>a)\g<n>"#, #"\k<n>"#, #"(?m:a)"#, #"(?x: a)"#, #"(?~a)"#, #"(?(1)a|b)"#, #"(?{t})a"#,
    #"(?#c)a"#, "(*FAIL)", "(*MAX{3})a",
    #"\X"#, #"\R"#, #"\K"#, #"\G"#, #"\y"#, #"\cA"#, #"\M-a"#, #"\xFF"#, #"[\p{L}-a]"#, #"[\s-a]"#,
    #"[a-[b]]"#,
    #"(?<=a+)b"#, #"(?<=a{2})b"#, #"\p{lu}"#, #"\p{}"#,
  ])
  func unsupportedExpressionsAreRefused(_ pattern: String) {
    expectFailure(.unsupported, "is not supported", document(preTokenizer: removing(pattern)))
  }

  @Test(arguments: ["(a", "a)", "[a", #"[a-\p{L}]"#, #"\x{110000}"#, #"\xG1"#, #"\"#, #"\u12"#, #"\x{D800}"#])
  func brokenExpressionsAreRefused(_ pattern: String) {
    expectFailure(.malformed, "regular expression, character", document(preTokenizer: removing(pattern)))
  }

  /// Expressions that Oniguruma itself refuses, without a position.
  @Test(arguments: ["*a", "[b-a]", #"[a-\s]"#, "^*a", "(?=a)*", "a|*"])
  func expressionsThatOnigurumaRefusesAreRefused(_ pattern: String) {
    expectFailure(.malformed, "regular expression '\(pattern)': ", document(preTokenizer: removing(pattern)))
  }

  @Test func expressionsNestedTooDeepAreRefused() {
    let pattern = String(repeating: "(", count: 5000) + "a" + String(repeating: ")", count: 5000)
    expectFailure(.unsupported, "nested", document(preTokenizer: removing(pattern)))
    expectFailure(
      .unsupported, "nested", document(preTokenizer: removing(String(repeating: "[a", count: 5000))))
    expectFailure(
      .unsupported, "bytes", document(preTokenizer: removing(String(repeating: "a", count: 20_000))))
    expectFailure(
      .unsupported, "categories",
      document(preTokenizer: removing(String(repeating: #"\p{L}"#, count: 2000))))
  }

  @Test func expressionsThatTakeTooLongAreErrors() throws {
    let tokenizer = try Tokenizer(tokenizerJSON: document(preTokenizer: removing("(?:a+)+b")))
    #expect(try tokenizer.encode("aaaaab", addSpecialTokens: false).isEmpty)
    #expect(throws: CheckpointError.self) {
      try tokenizer.encode(String(repeating: "a", count: 40), addSpecialTokens: false)
    }
  }

  /// Each of these needs quadratic or exponential time unless steps are counted.
  @Test(arguments: [
    "(?:a+)+b", "(?:a|a)+b", "(?:a?){40}a{40}b", "a*b|a", "a*+b|a", "(?>a*)b|a", "(?=.*b)a|a", "(?!.*b)b|a",
    "(?:a*+b|a*+c|a*+d)|a", "(?:(?:a+)+){50}b", "(?i:(?:a|A)+)+b", "[^b]*b|(?<=a)a", "a{50000}b|a",
    "a{50000,}b|a", "a{0,50000}b|a", "(?:aa|a){50000}b|a", "(a|aa)(?=a*b)|a",
    String(repeating: "(a|a)", count: 30) + "b|a", String(repeating: "(?:|)", count: 30) + "b",
  ])
  func hostileExpressionsAreBounded(_ pattern: String) throws {
    let tokenizer = try Tokenizer(tokenizerJSON: document(preTokenizer: removing(pattern)))
    let error = #expect(throws: CheckpointError.self, "\(pattern)") {
      try tokenizer.encode(String(repeating: "a", count: 100_000), addSpecialTokens: false)
    }
    #expect(error?.code == .unsupported)
    #expect(
      error?.message.contains("'\(pattern.printable)' takes more than 256 steps per byte") == true,
      "\(error?.message ?? "")")
  }

  /// Similar expressions that finish quickly.
  @Test(arguments: [
    "(?:(?:(?:){1000}){1000}){1000}", "(?:(?:(?:a?){1000}){1000}){1000}b", "(?:[ab]*[ac]*)*d",
    "(?:(?:(?:a*)*)*)*",
    "(?:(?:a{0,1000}){0,1000}){0,1000}a",
  ])
  func expressionsThatOnlyLookHostileFinish(_ pattern: String) throws {
    let tokenizer = try Tokenizer(tokenizerJSON: document(preTokenizer: removing(pattern)))
    do throws(CheckpointError) {
      let ids = try tokenizer.encode(String(repeating: "a", count: 100_000), addSpecialTokens: false)
      #expect(ids.isEmpty || ids.count == 100_000)
    } catch {
      #expect(error.message.contains("steps per byte"))
    }
  }

  /// Every document with a changed byte is read or refused.
  @Test func damagedDocumentsAreReadOrRefused() throws {
    let whole = try fixture("tokenizer/llama3.json")
    var generator = SeededGenerator(seed: 5)
    var refused = 0
    for _ in 0..<400 {
      var bytes = whole
      for _ in 0..<Int.random(in: 1...3, using: &generator) {
        let index = Int.random(in: 0..<bytes.count, using: &generator)
        switch Int.random(in: 0..<3, using: &generator) {
        case 0: bytes[index] = UInt8.random(in: 0...255, using: &generator)
        case 1: bytes.remove(at: index)
        default: bytes.removeSubrange(index..<min(bytes.count, index + 40))
        }
      }
      do {
        let tokenizer = try Tokenizer(tokenizerJSON: bytes)
        _ = tokenizer.decode(
          try tokenizer.encode("The boats\n\n 12 <|begin_of_text|>", addSpecialTokens: true))
      } catch {
        refused += 1
      }
    }
    #expect(refused > 200)
  }
}
