internal import JSON

/// A pre-tokenizer that GGUF has names for in `tokenizer.ggml.pre`.
///
/// A GGUF file does not define how text is split; it gives a name that readers must know. Listed are the names whose
/// split is implemented here. Several names may mean the same split: those of the models published with it.
///
/// Sources: the names, and which of them split text alike, from llama.cpp (`llama-vocab.cpp`); the expressions as the
/// `tokenizer.json` files of the models have them.
package struct KnownPreTokenizer: Hashable, Sendable {
  /// Its names; the first is the one written.
  package let names: [String]
  /// Regular expressions whose matches become pieces, applied in sequence.
  let patterns: [String]
  /// Whether pieces are finally split as in GPT-2.
  let dividesLikeGPT2: Bool
  /// Whether text is normalised to NFC first. GGUF readers omit that.
  package let normalizes: Bool
  /// Whether a word that is a token is used directly, without applying merges.
  package let ignoresMerges: Bool

  private init(
    _ names: String..., patterns: [String], dividesLikeGPT2: Bool = false, normalizes: Bool = false,
    ignoresMerges: Bool = false
  ) {
    self.names = names
    self.patterns = patterns
    self.dividesLikeGPT2 = dividesLikeGPT2
    self.normalizes = normalizes
    self.ignoresMerges = ignoresMerges
  }

  /// The pre-tokenizer with a name.
  package static func named(_ name: String) -> KnownPreTokenizer? { all.first { $0.names.contains(name) } }

  /// The `pre_tokenizer` of a `tokenizer.json`.
  package var json: String {
    let bytes =
      #"{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":\#(dividesLikeGPT2)}"#
    guard !patterns.isEmpty else { return bytes }
    let splits = patterns.map { pattern in
      #"{"type":"Split","pattern":{"Regex":\#(JSONText.quoted(pattern))},"behavior":"Isolated","invert":false}"#
    }
    return #"{"type":"Sequence","pretokenizers":[\#(splits.joined(separator: ",")),\#(bytes)]}"#
  }

  // MARK: The table

  /// English contractions, in both cases.
  private static let endings = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
  private static let spaces = #"\s*[\r\n]+|\s+(?!\S)|\s+"#
  private static let symbols = #" ?[^\s\p{L}\p{N}]+[\r\n]*"#
  private static let word = #"[^\r\n\p{L}\p{N}]?\p{L}+"#
  /// Words that start at a capital, as in GPT-4o's tokenizer.
  private static func cased(_ ending: String) -> String {
    let start = #"[^\r\n\p{L}\p{N}]?"#
    let (upper, lower) = (#"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#, #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#)
    return "\(start)\(upper)*\(lower)+\(ending)|\(start)\(upper)+\(lower)*\(ending)"
  }
  private static let punctuatedWords =
    ##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##

  /// All of them; those that use whole words come before their equivalents without.
  package static let all: [KnownPreTokenizer] = [
    KnownPreTokenizer(
      "deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4",
      patterns: [
        #"\p{N}{1,3}"#, "[一-龥぀-ゟ゠-ヿ]+", #"\#(punctuatedWords)| ?[\p{P}\p{S}]+[\r\n]*|\#(spaces)"#,
      ]),
    KnownPreTokenizer(
      "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
      "jina-v5-nano", "glm4", "glm5",
      patterns: [#"\#(endings)|\#(word)|\p{N}{1,3}|\#(symbols)|\#(spaces)"#], ignoresMerges: true),
    KnownPreTokenizer(
      "smaug-bpe", "dbrx", "chatglm-bpe",
      patterns: [#"\#(endings)|\#(word)|\p{N}{1,3}|\#(symbols)|\#(spaces)"#]),
    KnownPreTokenizer(
      "qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open",
      "grok-2",
      patterns: [#"\#(endings)|\#(word)|\p{N}|\#(symbols)|\#(spaces)"#], normalizes: true),
    KnownPreTokenizer(
      "qwen35",
      patterns: [
        #"\#(endings)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\#(spaces)"#
      ], normalizes: true),
    KnownPreTokenizer(
      "gpt-2", "phi-2", "jina-es", "jina-de", "gigachat", "jina-v2-es", "jina-v2-de", "a.x-4.0", "mellum",
      "modern-bert", "exaone4", "mpt", "olmo", "jais", "trillion", "granite-docling", patterns: [],
      dividesLikeGPT2: true),
    KnownPreTokenizer(
      "starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2",
      patterns: [#"\p{N}"#], dividesLikeGPT2: true),
    KnownPreTokenizer(
      "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2",
      patterns: [#"\#(cased("\(endings)?"))|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#]),
    KnownPreTokenizer(
      "tekken", patterns: [#"\#(cased(""))|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\#(spaces)"#],
      ignoresMerges: true),
    KnownPreTokenizer(
      "seed-coder",
      patterns: [#"\#(endings)|\#(word)|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\#(spaces)"#]),
    KnownPreTokenizer(
      "bailingmoe", "bailingmoe2", "llada-moe",
      patterns: [#"'(?i:[sdmt]|ll|ve|re)|\#(word)|\p{N}|\#(symbols)|\s*[\r\n]|\s+(?!\S)|\s+"#]),
    KnownPreTokenizer("ufakzeka", patterns: [#"\#(word)|\p{N}|\#(symbols)|\#(spaces)"#]),
    KnownPreTokenizer(
      "minicpm5", patterns: [#"\p{N}{1,3}"#, #"\#(endings)|\#(word)|\p{N}+|\#(symbols)|\#(spaces)"#],
      ignoresMerges: true),
    KnownPreTokenizer(
      "laguna",
      patterns: [#"[^\n]+|[\n]+"#, #"\#(endings)|\#(word)|\p{N}|\#(symbols)|\#(spaces)"#]),
    KnownPreTokenizer(
      "jais-2",
      patterns: [
        #"\#(endings)|\#(word)|\p{N}{1,3}|\#(symbols)|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}"#
      ]),
    KnownPreTokenizer(
      "deepseek-coder",
      patterns: [#"[\r\n]"#, #"\s?\p{L}+"#, #"\s?\p{P}+"#, "[一-龥ࠀ-一가-퟿]+", #"\p{N}"#]),
  ]

  /// Every name that GGUF readers know for byte-level byte-pair encoding, including those whose split is not
  /// implemented here.
  package static let readersNames: [String] =
    (all.flatMap(\.names) + [
      "afmoe", "bloom", "chameleon", "cohere2moe", "deepseek-llm", "default", "exaone-moe", "falcon",
      "gpt3-finnish", "granite-embed-multi-97m", "jina-v1-en", "jina-v2-code", "kimi-k2", "poro-chat",
      "roberta-bpe", "spark2_5", "superbpe", "tiny_aya", "viking", "youtu",
    ]).sorted()
}
