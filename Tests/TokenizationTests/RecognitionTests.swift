internal import CheckpointTesting
internal import Foundation
internal import Step3Model
internal import TensorFormats
internal import Testing
internal import Tokenization

@Suite struct RecognitionTests {
  /// The characters that bytes are written as; their order does not matter here.
  private static let alphabet: [String] = {
    let ranges: [ClosedRange<UInt32>] = [0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF, 0x100...0x143]
    return ranges.joined().compactMap { Unicode.Scalar($0).map { String($0) } }
  }()

  /// A byte-level tokenizer with the 256 bytes, further tokens and their pairs.
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

  /// Pairs over every boundary that some pre-tokenizer makes, so that the vocabulary shows all divisions.
  private static let revealing: [(String, String)] = [
    ("1", "2"), ("12", "3"), ("123", "4"), ("a", "1"), ("a", "Z"), ("Ġ", "Ġ"), ("Ċ", "Ċ"), (".", "Ċ"),
    ("'", "S"), ("a", "'"),
    ("Ġ", "a"), (".", "a"), ("Ġ", "."), ("Ġ", "1"), (".", "/"), ("a", "."),
  ]

  @Test(arguments: KnownPreTokenizer.all)
  func knownOnesByTheirDivision(_ known: KnownPreTokenizer) throws {
    // A token that no pairs lead to shows whether words are taken whole.
    let written = document(
      known.json, merges: Self.revealing, further: ["Ġwhole"], ignoresMerges: known.ignoresMerges)
    // `\s*[\r\n]` reaches as far as `\s*[\r\n]+`: these two divide alike.
    let expected = known.names[0] == "bailingmoe" ? "qwen2" : known.names[0]
    #expect(try name(written) == expected)
  }

  /// How the models themselves spell it: other steps, the same division.
  @Test func otherSpellings() throws {
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
  func fixtures(_ preset: String) throws {
    #expect(try name(fixture("checkpoints/\(preset)/tokenizer.json")) == "deepseek-v3")
  }

  @Test func wholeWordsDecide() throws {
    let llama = try #require(KnownPreTokenizer.named("llama-bpe"))
    // Pairs lead to every word: it makes no difference whether words are taken whole.
    let trained: [(String, String)] = [("t", "h"), ("th", "e"), ("Ġ", "the")]
    for ignores in [true, false] {
      #expect(try name(document(llama.json, merges: trained, ignoresMerges: ignores)) == "llama-bpe")
    }
    // Now a word has a token that no pairs lead to.
    let further = ["Ġwhole"]
    #expect(
      try name(document(llama.json, merges: trained, further: further, ignoresMerges: true)) == "llama-bpe")
    #expect(try name(document(llama.json, merges: trained, further: further)) == "smaug-bpe")
    // A token of two words is never taken whole.
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

  @Test func refusesWhatDividesOtherwise() throws {
    let known = try #require(KnownPreTokenizer.named("deepseek-v3")).json
    // One step is missing, one character is, and digits come by twos.
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

  /// Divisions that no token goes over make no difference, and are stated with a note.
  @Test func divisionsThatNoTokenShows() throws {
    let whole = #"{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}"#
    let letters: [(String, String)] = [("h", "e"), ("l", "l"), ("ll", "o"), ("he", "llo")]
    for removed in [[], ["Ġ", "é", "Ċ", "x"]] as [Set<String>] {
      let found = try PreTokenizerRecognition(
        tokenizerJSON: document(whole, merges: letters, without: removed))
      #expect(found.name == "deepseek-v3")
      #expect(found.notes.map(\.what) == ["pre_tokenizer"])
    }
    // One that goes over a space shows it; so does half a character with what comes before.
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

  /// The digest is that of the list as Python prints it: `sha256(str([1, 2, 30]).encode())`.
  @Test func digestOfIDs() {
    #expect(
      PreTokenizerRecognition.digest(of: [1, 2, 30])
        == "bc1c61fe28da6942de6a7179c81d85dcf79eee45559db3dad4e95e9e4d6d8ba5")
    #expect(PreTokenizerDigests.names.count > 80)
    #expect(PreTokenizerDigests.names.values.allSatisfy(KnownPreTokenizer.readersNames.contains))
  }

  @Test func namesAreTold() {
    #expect(KnownPreTokenizer.named("dbrx")?.names[0] == "smaug-bpe")
    let names = KnownPreTokenizer.readersNames
    #expect(Set(names).count == names.count)
  }
}
