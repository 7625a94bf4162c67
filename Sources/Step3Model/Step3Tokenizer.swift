public import GGUF
public import TensorFormats

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
  /// The tokens that end one; GGUF has room for two.
  public var eosTokenIDs: [Int]
  /// The token that fills a batch.
  public var padTokenID: Int?
  /// Whether the start token is put in front of a text.
  public var addsBosToken: Bool
  /// The chat template, in Jinja.
  public var chatTemplate: String?
  /// What divides text before pairs are joined, as `tokenizer.ggml.pre` names it.
  public var preTokenizer: String

  /// The name of DeepSeek-V3's, which Step-3 uses.
  public static let deepSeekV3 = "deepseek-v3"

  /// Makes a tokenizer.
  ///
  /// - Precondition: `types` is as long as `tokens`.
  public init(
    tokens: [String], types: [TokenType], merges: [String], bosTokenID: Int? = nil, eosTokenIDs: [Int] = [],
    padTokenID: Int? = nil, addsBosToken: Bool = false, chatTemplate: String? = nil,
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
    self.chatTemplate = chatTemplate
    self.preTokenizer = preTokenizer
  }

  /// Adds the `tokenizer.*` keys.
  public func write(to metadata: inout GGUFMetadata) {
    metadata.set("tokenizer.ggml.model", .string("gpt2"))
    metadata.set("tokenizer.ggml.pre", .string(preTokenizer))
    metadata.set("tokenizer.ggml.tokens", .array(.string(tokens)))
    metadata.set("tokenizer.ggml.token_type", .array(.int32(types.map(\.rawValue))))
    metadata.set("tokenizer.ggml.merges", .array(.string(merges)))
    if let bosTokenID { metadata.set("tokenizer.ggml.bos_token_id", .uint32(UInt32(bosTokenID))) }
    if let eos = eosTokenIDs.first { metadata.set("tokenizer.ggml.eos_token_id", .uint32(UInt32(eos))) }
    if eosTokenIDs.count > 1 {
      metadata.set("tokenizer.ggml.eot_token_id", .uint32(UInt32(eosTokenIDs[1])))
    }
    if let padTokenID { metadata.set("tokenizer.ggml.padding_token_id", .uint32(UInt32(padTokenID))) }
    metadata.set("tokenizer.ggml.add_bos_token", .bool(addsBosToken))
    if let chatTemplate { metadata.set("tokenizer.chat_template", .string(chatTemplate)) }
  }

  /// Reads the tokenizer back from a GGUF file's metadata; `nil` if it has none.
  ///
  /// - Throws: `.malformed` for lists of different lengths, an unknown token type or a special id outside the list;
  ///   `.unsupported` for a tokenizer that is not byte-level BPE.
  public init?(metadata: GGUFMetadata) throws(CheckpointError) {
    guard let tokens = metadata.strings("tokenizer.ggml.tokens"), !tokens.isEmpty else { return nil }
    guard metadata["tokenizer.ggml.model"] == .string("gpt2") else {
      throw CheckpointError(
        .unsupported, "tokenizer.ggml.model: expected 'gpt2' (byte-level BPE), found another")
    }
    var types: [TokenType] = []
    types.reserveCapacity(tokens.count)
    if let numbers = metadata.integers("tokenizer.ggml.token_type") {
      for number in numbers {
        guard let type = Int32(exactly: number).flatMap(TokenType.init(rawValue:)) else {
          throw CheckpointError(.malformed, "tokenizer.ggml.token_type: expected 1 to 6, found \(number)")
        }
        types.append(type)
      }
    } else {
      types = Array(repeating: .normal, count: tokens.count)
    }
    guard types.count == tokens.count else {
      throw CheckpointError(
        .malformed, "tokenizer.ggml.token_type: expected \(tokens.count) entries, found \(types.count)")
    }
    let keys = GGUFKeys(metadata)
    let ids = 0...(tokens.count - 1)
    self.init(
      tokens: tokens, types: types, merges: metadata.strings("tokenizer.ggml.merges") ?? [],
      bosTokenID: try keys.optionalInteger("tokenizer.ggml.bos_token_id", in: ids),
      eosTokenIDs: try keys.endTokenIDs(in: ids),
      padTokenID: try keys.optionalInteger("tokenizer.ggml.padding_token_id", in: ids),
      addsBosToken: try keys.flag("tokenizer.ggml.add_bos_token"),
      chatTemplate: metadata.string("tokenizer.chat_template"),
      preTokenizer: metadata.string("tokenizer.ggml.pre") ?? "default")
  }
}
