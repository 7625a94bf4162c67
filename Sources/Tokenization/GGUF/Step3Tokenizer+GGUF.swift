public import GGUF
internal import Step3Model
public import TensorFormats

extension Step3Tokenizer {
  /// The keys of chat templates: the default one, the list of names, and the prefix of named ones.
  private enum TemplateKey {
    static let usual = "tokenizer.chat_template"
    static let names = "tokenizer.chat_templates"
    static let prefix = "tokenizer.chat_template."
  }

  /// Adds the `tokenizer.*` keys.
  ///
  /// - Parameters:
  ///   - metadata: Receives the keys.
  ///   - likeConverter: Whether to add no more than llama.cpp's converter does, for architectures that it writes:
  ///     only the first end token, and always whether it is added after a text.
  public func write(to metadata: inout GGUFMetadata, likeConverter: Bool = false) {
    metadata.set("tokenizer.ggml.model", .string("gpt2"))
    metadata.set("tokenizer.ggml.pre", .string(preTokenizer))
    metadata.set("tokenizer.ggml.tokens", .array(.string(tokens)))
    metadata.set("tokenizer.ggml.token_type", .array(.int32(types.map(\.rawValue))))
    metadata.set("tokenizer.ggml.merges", .array(.string(merges)))
    func set(_ key: String, _ id: Int?) {
      if let id { metadata.set(key, .uint32(UInt32(id))) }
    }
    set("tokenizer.ggml.bos_token_id", bosTokenID)
    for (key, id) in zip(GGUFKeys.endTokens, likeConverter ? Array(eosTokenIDs.prefix(1)) : eosTokenIDs) {
      set(key, id)
    }
    for token in SpecialToken.allCases { set(token.ggufKey, specialTokenIDs[token]) }
    set("tokenizer.ggml.padding_token_id", padTokenID)
    metadata.set("tokenizer.ggml.add_bos_token", .bool(addsBosToken))
    if let adds = addsEosToken ?? (likeConverter ? false : nil) {
      metadata.set("tokenizer.ggml.add_eos_token", .bool(adds))
    }
    if let addsSeparatorToken { metadata.set("tokenizer.ggml.add_sep_token", .bool(addsSeparatorToken)) }
    for template in namedChatTemplates {
      metadata.set(TemplateKey.prefix + template.name, .string(template.text))
    }
    if !namedChatTemplates.isEmpty {
      metadata.set(TemplateKey.names, .array(.string(namedChatTemplates.map(\.name))))
    }
    if let chatTemplate { metadata.set(TemplateKey.usual, .string(chatTemplate)) }
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
    let keys = GGUFKeys(metadata)
    let ids = 0...(tokens.count - 1)
    self.init(
      tokens: tokens, types: try Self.types(metadata, count: tokens.count),
      merges: metadata.strings("tokenizer.ggml.merges") ?? [],
      bosTokenID: try keys.tokenID("tokenizer.ggml.bos_token_id", in: ids),
      eosTokenIDs: try keys.endTokenIDs(in: ids),
      padTokenID: try keys.tokenID("tokenizer.ggml.padding_token_id", in: ids),
      addsBosToken: try keys.flag("tokenizer.ggml.add_bos_token"),
      addsEosToken: try keys.optionalFlag("tokenizer.ggml.add_eos_token"),
      chatTemplate: metadata.string(TemplateKey.usual),
      preTokenizer: metadata.string("tokenizer.ggml.pre") ?? "default")
    addsSeparatorToken = try keys.optionalFlag("tokenizer.ggml.add_sep_token")
    for token in SpecialToken.allCases {
      specialTokenIDs[token] = try keys.tokenID(token.ggufKey, in: ids)
    }
    for entry in metadata.entries where entry.key.hasPrefix(TemplateKey.prefix) {
      guard case .string(let text) = entry.value else {
        throw CheckpointError(
          .malformed, "\(entry.key.printable): expected a chat template, found another type than a string")
      }
      namedChatTemplates.append(
        ChatTemplate(name: String(entry.key.dropFirst(TemplateKey.prefix.count)), text: text))
    }
  }

  private static func types(
    _ metadata: GGUFMetadata, count: Int
  ) throws(CheckpointError) -> [TokenType] {
    guard let numbers = metadata.integers("tokenizer.ggml.token_type") else {
      return Array(repeating: .normal, count: count)
    }
    var types: [TokenType] = []
    types.reserveCapacity(count)
    for number in numbers {
      guard let type = Int32(exactly: number).flatMap(TokenType.init(rawValue:)) else {
        throw CheckpointError(.malformed, "tokenizer.ggml.token_type: expected 1 to 6, found \(number)")
      }
      types.append(type)
    }
    guard types.count == count else {
      throw CheckpointError(
        .malformed, "tokenizer.ggml.token_type: expected \(count) entries, found \(types.count)")
    }
    return types
  }
}
