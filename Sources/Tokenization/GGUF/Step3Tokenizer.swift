internal import Step3Model
internal import TensorFormats

/// A byte-level BPE tokenizer as GGUF states it: what `tokenizer.json` and its two companions say, by token id.
public struct Step3Tokenizer: Hashable, Sendable {
  /// What a token is, numbered as in GGUF (`llama_token_type` of llama.cpp).
  public enum TokenType: Int32, Hashable, Sendable {
    case normal = 1
    case unknown, control, userDefined, unused, byte
  }

  /// The text of each token, by id.
  public var tokens: [String]
  /// The type of each token, by id.
  public var types: [TokenType]
  /// Pairs to join, best first, each `left right`.
  public var merges: [String]
  /// The token that starts a text.
  public var bosTokenID: Int?
  /// The tokens that end one, the one that is written behind a text first. GGUF has room for three: the end of the
  /// text, of a turn and of a message.
  public var eosTokenIDs: [Int]
  /// The token that fills a batch.
  public var padTokenID: Int?
  /// Whether the start token is put in front of a text.
  public var addsBosToken: Bool
  /// Whether the first end token is put behind a text; `nil` where nothing is said of it.
  public var addsEosToken: Bool?
  /// Whether the separator is put between two texts; `nil` where nothing is said of it.
  public var addsSeparatorToken: Bool?
  /// What is said of further special tokens.
  public var specialTokenIDs: [SpecialToken: Int] = [:]
  /// The chat template, in Jinja.
  public var chatTemplate: String?
  /// Further templates, for other occasions than the usual one.
  public var namedChatTemplates: [ChatTemplate] = []
  /// What divides text before pairs are joined, as `tokenizer.ggml.pre` names it.
  public var preTokenizer: String
  /// What of the source is not stated here, or not as it stands there.
  var readingNotes: [Note] = []

  /// Something of the source that a GGUF file has no place for, or that is stated otherwise there.
  public struct Note: Hashable, Sendable {
    /// What it is about, for example `end token 7`.
    public var what: String
    /// What becomes of it, and why.
    public var reason: String

    /// Makes a note.
    public init(_ what: String, _ reason: String) {
      self.what = what
      self.reason = reason
    }
  }

  /// A chat template that is asked for by its name.
  public struct ChatTemplate: Hashable, Sendable {
    /// For example `tool_use`.
    public var name: String
    /// The template, in Jinja.
    public var text: String

    /// Makes a template.
    public init(name: String, text: String) {
      self.name = name
      self.text = text
    }
  }

  /// The name of DeepSeek-V3's, which Step-3 uses.
  public static let deepSeekV3 = "deepseek-v3"

  /// Makes a tokenizer.
  ///
  /// - Precondition: `types` is as long as `tokens`.
  public init(
    tokens: [String], types: [TokenType], merges: [String], bosTokenID: Int? = nil, eosTokenIDs: [Int] = [],
    padTokenID: Int? = nil, addsBosToken: Bool = false, addsEosToken: Bool? = nil,
    chatTemplate: String? = nil,
    preTokenizer: String = deepSeekV3
  ) {
    precondition(tokens.count == types.count, "every token has a type")
    self.tokens = tokens
    self.types = types
    self.merges = merges
    self.bosTokenID = bosTokenID
    self.eosTokenIDs = eosTokenIDs
    self.padTokenID = padTokenID
    self.addsBosToken = addsBosToken
    self.addsEosToken = addsEosToken
    self.chatTemplate = chatTemplate
    self.preTokenizer = preTokenizer
  }

  /// What a GGUF file will not say of the source's tokenizer, or will say otherwise, for people to read.
  public var notes: [Note] {
    let beyond = eosTokenIDs.dropFirst(GGUFKeys.endTokens.count)
    guard !beyond.isEmpty else { return readingNotes }
    let names = beyond.map { "\($0) ('\(tokens.indices.contains($0) ? tokens[$0].printable : "")')" }
    return readingNotes + [
      Note(
        "end token \(names.joined(separator: ", "))",
        "a GGUF has room for three tokens that end a text (eos, eot, eom), and generation will not stop here")
    ]
  }
}
