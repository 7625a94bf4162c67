public import GGUF
public import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

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
  /// The tokens that end one; GGUF has room for the first.
  public var eosTokenIDs: [Int]
  /// The token that fills a batch.
  public var padTokenID: Int?
  /// Whether the start token is put in front of a text.
  public var addsBosToken: Bool
  /// The chat template, in Jinja.
  public var chatTemplate: String?

  private struct File: Decodable {
    struct Added: Decodable {
      let id: Int
      let content: String
      let special: Bool?
    }
    struct Model: Decodable {
      let vocab: [String: Int]
      let merges: [String]
      let byteFallback: Bool

      enum CodingKeys: String, CodingKey {
        case vocab, merges
        case byteFallback = "byte_fallback"
      }

      init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        vocab = try container.decode([String: Int].self, forKey: .vocab)
        byteFallback = try container.decodeIfPresent(Bool.self, forKey: .byteFallback) ?? false
        // Old files have "a b", new ones ["a", "b"]; trying once for the whole list keeps 128,000 of them cheap.
        if let pairs = try? container.decode([[String]].self, forKey: .merges) {
          merges = pairs.map { $0.joined(separator: " ") }
        } else {
          merges = try container.decodeIfPresent([String].self, forKey: .merges) ?? []
        }
      }
    }
    let model: Model
    let addedTokens: [Added]?

    enum CodingKeys: String, CodingKey {
      case model
      case addedTokens = "added_tokens"
    }
  }

  /// Reads a tokenizer.
  ///
  /// - Parameters:
  ///   - tokenizerJSON: The bytes of `tokenizer.json`.
  ///   - tokenizerConfigJSON: The bytes of `tokenizer_config.json`: chat template, `add_bos_token`.
  ///   - generationConfigJSON: The bytes of `generation_config.json`, whose special tokens win.
  ///   - configuration: Special tokens otherwise, and the vocabulary size, up to which ids without a token are filled
  ///     with unused `[PAD<id>]`.
  /// - Throws: `.malformed` for an id outside the vocabulary, or for a document that is no such file.
  public init(
    tokenizerJSON: [UInt8], tokenizerConfigJSON: [UInt8]? = nil, generationConfigJSON: [UInt8]? = nil,
    configuration: Step3Configuration
  ) throws(CheckpointError) {
    let file: File
    do {
      file = try JSONDecoder().decode(File.self, from: Data(tokenizerJSON))
    } catch {
      throw CheckpointError(
        .malformed, "tokenizer.json: expected a BPE model with a vocab of ids, found something else")
    }
    let size = configuration.text.vocabularySize
    tokens = (0..<size).map { "[PAD\($0)]" }
    types = Array(repeating: .unused, count: size)
    func check(_ id: Int, _ text: String) throws(CheckpointError) {
      guard (0..<size).contains(id) else {
        throw CheckpointError(
          .malformed,
          "tokenizer.json: token '\(text.printable)': expected an id below vocab_size \(size), found \(id)")
      }
    }
    for (text, id) in file.model.vocab {
      try check(id, text)
      tokens[id] = text
      let isByte =
        file.model.byteFallback && text.utf8.count == 6 && text.hasPrefix("<0x") && text.hasSuffix(">")
      types[id] = isByte ? .byte : .normal
    }
    for token in file.addedTokens ?? [] {
      try check(token.id, token.content)
      tokens[token.id] = token.content
      types[token.id] = token.special == true ? .control : .userDefined
    }
    merges = file.model.merges
    bosTokenID = configuration.bosTokenID
    eosTokenIDs = configuration.eosTokenIDs
    padTokenID = configuration.padTokenID
    if let generationConfigJSON {
      let name = "generation_config.json"
      let object = try JSONObject(JSONValue.parse(generationConfigJSON, name: name), place: "\(name): ")
      let ids = 0...(size - 1)
      bosTokenID = try object.integers("bos_token_id", in: ids).first ?? bosTokenID
      let ends = try object.integers("eos_token_id", in: ids)
      if !ends.isEmpty { eosTokenIDs = ends }
      padTokenID = try object.integers("pad_token_id", in: ids).first ?? padTokenID
    }
    addsBosToken = false
    if let tokenizerConfigJSON {
      let name = "tokenizer_config.json"
      let object = try JSONObject(JSONValue.parse(tokenizerConfigJSON, name: name), place: "\(name): ")
      addsBosToken = try object.bool("add_bos_token", default: false)
      // A list of named templates also occurs; GGUF has one place only.
      if case .string(let template)? = object.value("chat_template") { chatTemplate = template }
    }
  }

  /// Adds the `tokenizer.*` keys.
  public func write(to metadata: inout GGUFMetadata) {
    metadata.set("tokenizer.ggml.model", .string("gpt2"))
    metadata.set("tokenizer.ggml.pre", .string("deepseek-v3"))
    metadata.set("tokenizer.ggml.tokens", .array(.string(tokens)))
    metadata.set("tokenizer.ggml.token_type", .array(.int32(types.map(\.rawValue))))
    metadata.set("tokenizer.ggml.merges", .array(.string(merges)))
    if let bosTokenID { metadata.set("tokenizer.ggml.bos_token_id", .uint32(UInt32(bosTokenID))) }
    if let eos = eosTokenIDs.first { metadata.set("tokenizer.ggml.eos_token_id", .uint32(UInt32(eos))) }
    if let padTokenID { metadata.set("tokenizer.ggml.padding_token_id", .uint32(UInt32(padTokenID))) }
    metadata.set("tokenizer.ggml.add_bos_token", .bool(addsBosToken))
    if let chatTemplate { metadata.set("tokenizer.chat_template", .string(chatTemplate)) }
  }

  /// Reads the tokenizer back from a GGUF file's metadata; `nil` if it has none.
  ///
  /// - Throws: `.malformed` for lists of different lengths, an unknown token type or a special id outside the list.
  public init?(metadata: GGUFMetadata) throws(CheckpointError) {
    guard case .array(.string(let tokens))? = metadata["tokenizer.ggml.tokens"] else { return nil }
    self.tokens = tokens
    types = []
    if case .array(.int32(let numbers))? = metadata["tokenizer.ggml.token_type"] {
      for number in numbers {
        guard let type = TokenType(rawValue: number) else {
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
    merges = if case .array(.string(let list))? = metadata["tokenizer.ggml.merges"] { list } else { [] }
    let reader = GGUFKeys(metadata)
    let ids = 0...max(0, tokens.count - 1)
    bosTokenID = try reader.optionalInteger("tokenizer.ggml.bos_token_id", in: ids)
    eosTokenIDs = try reader.optionalInteger("tokenizer.ggml.eos_token_id", in: ids).map { [$0] } ?? []
    padTokenID = try reader.optionalInteger("tokenizer.ggml.padding_token_id", in: ids)
    addsBosToken = metadata["tokenizer.ggml.add_bos_token"] == .bool(true)
    if case .string(let template)? = metadata["tokenizer.chat_template"] { chatTemplate = template }
  }
}
