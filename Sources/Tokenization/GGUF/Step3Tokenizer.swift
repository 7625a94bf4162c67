internal import Step3Model
internal import TensorFormats

/// A byte-level BPE tokenizer as represented in GGUF: the content of `tokenizer.json` and its two companions, by token
/// id.
public struct Step3Tokenizer: Hashable, Sendable {
  /// The type of a token, numbered as in GGUF (`llama_token_type` of llama.cpp).
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
  /// The tokens that end a text, first the one that is added after a text. GGUF can store three: the end of the
  /// text, of a turn and of a message.
  public var eosTokenIDs: [Int]
  /// The padding token.
  public var padTokenID: Int?
  /// Whether the start token is added before a text.
  public var addsBosToken: Bool
  /// Whether the first end token is added after a text; `nil` if not specified.
  public var addsEosToken: Bool?
  /// Whether the separator is added between two texts; `nil` if not specified.
  public var addsSeparatorToken: Bool?
  /// The ids of further special tokens.
  public var specialTokenIDs: [SpecialToken: Int] = [:]
  /// The chat template, in Jinja.
  public var chatTemplate: String?
  /// Further templates, for special purposes.
  public var namedChatTemplates: [ChatTemplate] = []
  /// The pre-tokenizer, as named by `tokenizer.ggml.pre`.
  public var preTokenizer: String
  /// What is lost or changed from the source.
  var readingNotes: [Note] = []

  /// Something in the source that a GGUF file cannot store or stores differently.
  public struct Note: Hashable, Sendable {
    /// The subject, for example `end token 7`.
    public var what: String
    /// What happens to it, and why.
    public var reason: String

    /// Creates a note.
    public init(_ what: String, _ reason: String) {
      self.what = what
      self.reason = reason
    }
  }

  /// A chat template that is selected by name.
  public struct ChatTemplate: Hashable, Sendable {
    /// For example `tool_use`.
    public var name: String
    /// The template, in Jinja.
    public var text: String

    /// Creates a template.
    public init(name: String, text: String) {
      self.name = name
      self.text = text
    }
  }

  /// The name of DeepSeek-V3's pre-tokenizer, which Step-3 uses.
  public static let deepSeekV3 = "deepseek-v3"

  /// Creates a tokenizer.
  ///
  /// - Precondition: `types` is as long as `tokens`.
  public init(
    tokens: [String], types: [TokenType], merges: [String], bosTokenID: Int? = nil, eosTokenIDs: [Int] = [],
    padTokenID: Int? = nil, addsBosToken: Bool = false, addsEosToken: Bool? = nil,
    chatTemplate: String? = nil,
    preTokenizer: String = deepSeekV3
  ) {
    precondition(tokens.count == types.count, "every token must have a type")
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

  /// What a GGUF file will omit or change of the source's tokenizer, as readable text.
  public var notes: [Note] {
    let beyond = eosTokenIDs.dropFirst(GGUFKeys.endTokens.count)
    guard !beyond.isEmpty else { return readingNotes }
    let names = beyond.map { "\($0) ('\(tokens.indices.contains($0) ? tokens[$0].printable : "")')" }
    return readingNotes + [
      Note(
        "end token \(names.joined(separator: ", "))",
        "a GGUF can store only three tokens that end a text (eos, eot, eom), so generation will not stop at these"
      )
    ]
  }
}
