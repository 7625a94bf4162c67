internal import CheckpointTesting
internal import Foundation
internal import Step3Model
internal import TensorFormats
internal import Testing
internal import Tokenization

@Suite struct RecognitionTests {
  /// The characters that stand for bytes; their order does not matter here.
  private static let alphabet: [String] = {
    let ranges: [ClosedRange<UInt32>] = [0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF, 0x100...0x143]
    return ranges.joined().compactMap { Unicode.Scalar($0).map { String($0) } }
  }()

  /// A byte-level tokenizer with the 256 bytes, further tokens and their merges.
  private func document(
    _ preTokenizer: String, merges: [(String, String)] = [], further: [String] = [],
    ignoresMerges: Bool = false,
    normalizer: String = "null", without removed: Set<String> = []
  ) -> [UInt8] {
    var texts = Self.alphabet.filter { !removed.contains($0) }
    texts += merges.map { $0.0 + $0.1 } + further
    var vocabulary: [String: Int] = [:]
    for (id, text) in texts.enumerated() { vocabulary[text] = id }
    let model: [String: Any] = [
      "type": "BPE", "vocab": vocabulary, "merges": merges.map { [$0.0, $0.1] },
      "ignore_merges": ignoresMerges,
    ]
    let data = (try? JSONSerialization.data(withJSONObject: model)) ?? Data()
    return Array(
      #"{"normalizer":\#(normalizer),"pre_tokenizer":\#(preTokenizer),"decoder":{"type":"ByteLevel"},"model":\#(String(decoding: data, as: UTF8.self))}"#
        .utf8)
  }

  private func name(_ bytes: [UInt8]) throws -> String {
    try PreTokenizerRecognition(tokenizerJSON: bytes).name
  }

  /// Merges across every boundary of some pre-tokenizer, so that the vocabulary exposes all splits.
  private static let revealing: [(String, String)] = [
    ("1", "2"), ("12", "3"), ("123", "4"), ("a", "1"), ("a", "Z"), ("Ġ", "Ġ"), ("Ċ", "Ċ"), (".", "Ċ"),
    ("'", "S"), ("a", "'"),
    ("Ġ", "a"), (".", "a"), ("Ġ", "."), ("Ġ", "1"), (".", "/"), ("a", "."),
  ]

  @Test(arguments: KnownPreTokenizer.all)
  func knownPreTokenizersAreRecognisedByTheirSplits(_ known: KnownPreTokenizer) throws {
    // A token that no merges produce shows whether whole words are looked up.
    let written = document(
      known.json, merges: Self.revealing, further: ["Ġwhole"], ignoresMerges: known.ignoresMerges)
    // `\s*[\r\n]` matches as far as `\s*[\r\n]+`: the two split alike.
    let expected = known.names[0] == "bailingmoe" ? "qwen2" : known.names[0]
    #expect(try name(written) == expected)
  }

  /// The models' own spelling: other steps, the same split.
  @Test func otherSpellingsAreRecognised() throws {
    let digits = #"{"type":"Digits","individual_digits":true}"#
    let bytes = #"{"type":"ByteLevel","add_prefix_space":false,"use_regex":true}"#
    let starcoder = document(
      #"{"type":"Sequence","pretokenizers":[\#(digits),\#(bytes)]}"#, merges: Self.revealing)
    #expect(try name(starcoder) == "starcoder")
    let nested = document(
      #"{"type":"Sequence","pretokenizers":[{"type":"Sequence","pretokenizers":[\#(bytes)]}]}"#,
      merges: Self.revealing)
    #expect(try name(nested) == "gpt-2")
  }

  @Test(arguments: ["tiny", "odd"])
  func fixturesAreRecognised(_ preset: String) throws {
    #expect(try name(fixture("checkpoints/\(preset)/tokenizer.json")) == "deepseek-v3")
  }

  @Test func lookingUpWholeWordsIsRecognised() throws {
    let llama = try #require(KnownPreTokenizer.named("llama-bpe"))
    // Merges produce every word, so looking up whole words makes no difference.
    let trained: [(String, String)] = [("t", "h"), ("th", "e"), ("Ġ", "the")]
    for ignores in [true, false] {
      #expect(try name(document(llama.json, merges: trained, ignoresMerges: ignores)) == "llama-bpe")
    }
    // Now a word has a token that no merges produce.
    let further = ["Ġwhole"]
    #expect(
      try name(document(llama.json, merges: trained, further: further, ignoresMerges: true)) == "llama-bpe")
    #expect(try name(document(llama.json, merges: trained, further: further)) == "smaug-bpe")
    // A token of two words is never looked up.
    #expect(try name(document(llama.json, merges: trained, further: ["aĠb"])) == "llama-bpe")
    let deepSeek = try #require(KnownPreTokenizer.named("deepseek-v3"))
    expectRefusal(
      document(deepSeek.json, merges: Self.revealing, further: further, ignoresMerges: true), "ignore_merges")
  }

  private func expectRefusal(_ bytes: [UInt8], _ part: String) {
    let error = #expect(throws: CheckpointError.self) { try PreTokenizerRecognition(tokenizerJSON: bytes) }
    #expect(error?.code == .unsupported)
    #expect(error?.message.hasPrefix("tokenizer.json: ") == true)
    #expect(error?.message.contains(part) == true, "\(error.map { "\($0)" } ?? "")")
    #expect(error?.remedy?.contains("--tokenizer-pre NAME") == true)
    #expect(error?.remedy?.contains("deepseek-v3, ") == true)
  }

  @Test func otherSplitsAreRefused() throws {
    let known = try #require(KnownPreTokenizer.named("deepseek-v3")).json
    // A missing step, a missing character, and digits in twos.
    let oneStep =
      #"{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\p{N}{1,3}"},"#
      + #""behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]}"#
    for variant in [
      oneStep, known.replacingOccurrences(of: "{1,3}", with: "{1,2}"),
      known.replacingOccurrences(of: "~][A-Za-z]", with: "][A-Za-z]"),
      known.replacingOccurrences(of: #""add_prefix_space":false"#, with: #""add_prefix_space":true"#),
      known.replacingOccurrences(of: "Isolated", with: "Removed"),
    ] {
      #expect(variant != known)
      expectRefusal(document(variant, merges: Self.revealing + [("~", "a"), ("~a", "b")]), "pre_tokenizer")
    }
    expectRefusal(document(#"{"type":"Whitespace"}"#), "Whitespace")
    expectRefusal(document(known, merges: Self.revealing, normalizer: #"{"type":"Lowercase"}"#), "Lowercase")
    expectRefusal(document(known, merges: Self.revealing, normalizer: #"{"type":"NFKC"}"#), "NFKC")
  }

  /// Splits that no token crosses make no difference, and are noted.
  @Test func splitsThatNoTokenCrossesAreNoted() throws {
    let whole = #"{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}"#
    let letters: [(String, String)] = [("h", "e"), ("l", "l"), ("ll", "o"), ("he", "llo")]
    for removed in [[], ["Ġ", "é", "Ċ", "x"]] as [Set<String>] {
      let found = try PreTokenizerRecognition(
        tokenizerJSON: document(whole, merges: letters, without: removed))
      #expect(found.name == "deepseek-v3")
      #expect(found.notes.map(\.what) == ["pre_tokenizer"])
    }
    // A token across a space exposes the split; so does half a character with its predecessor.
    expectRefusal(document(whole, merges: letters + [("o", "Ġ")]), "pre_tokenizer")
    expectRefusal(document(whole, merges: letters + [("o", "Ã")]), "pre_tokenizer")
  }

  @Test func normalFormIsNoted() throws {
    let qwen = try #require(KnownPreTokenizer.named("qwen2")).json
    let plain = try PreTokenizerRecognition(tokenizerJSON: document(qwen, merges: Self.revealing))
    #expect(plain.name == "qwen2" && plain.notes.map(\.what) == ["normalizer"])
    let composed = try PreTokenizerRecognition(
      tokenizerJSON: document(qwen, merges: Self.revealing, normalizer: #"{"type":"NFC"}"#))
    #expect(composed.name == "qwen2" && composed.notes.map(\.what) == ["normalizer NFC"])
  }

  /// The digest is of the list as Python prints it: `sha256(str([1, 2, 30]).encode())`.
  @Test func idsAreDigestedAsByPython() {
    #expect(
      PreTokenizerRecognition.digest(of: [1, 2, 30])
        == "bc1c61fe28da6942de6a7179c81d85dcf79eee45559db3dad4e95e9e4d6d8ba5")
    #expect(PreTokenizerDigests.names.count > 80)
    #expect(PreTokenizerDigests.names.values.allSatisfy(KnownPreTokenizer.readersNames.contains))
  }

  @Test func givenNamesAreAccepted() {
    #expect(KnownPreTokenizer.named("dbrx")?.names[0] == "smaug-bpe")
    let names = KnownPreTokenizer.readersNames
    #expect(Set(names).count == names.count)
  }
}
