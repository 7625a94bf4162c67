public import ByteStreams
internal import Checkpoint
internal import JSON
internal import Step3Model
public import TensorFormats

extension Tokenizer {
  /// Reads the tokenizer next to a checkpoint's weights: `tokenizer.json`, and `tokenizer_config.json` if it exists.
  ///
  /// - Throws: As ``init(tokenizerJSON:tokenizerConfigJSON:)``; `.notFound` without a `tokenizer.json`.
  public init(in store: any ByteStore) throws(CheckpointError) {
    let (document, companion) = ("tokenizer.json", "tokenizer_config.json")
    let bytes = try Self.read(document, in: store)
    let configuration = try store.kind(of: companion) == nil ? nil : Self.read(companion, in: store)
    do throws(CheckpointError) {
      try self.init(tokenizerJSON: bytes, tokenizerConfigJSON: configuration)
    } catch {
      throw error.at(path: store.path(of: error.message.hasPrefix(companion) ? companion : document))
    }
  }

  /// Reads a tokenizer.
  ///
  /// - Parameters:
  ///   - tokenizerJSON: The bytes of `tokenizer.json`.
  ///   - tokenizerConfigJSON: The bytes of `tokenizer_config.json`. Of its contents only `add_bos_token` and
  ///     `add_eos_token` count, and only for the classes that use them (Llama's), where they replace the
  ///     post-processor.
  /// - Throws: `.malformed` for a document that violates the format: an id or a text that appears twice, a merge of
  ///   something that is not a token, an added token with another id than the `tokenizers` library assigns.
  ///   `.unsupported`, with its name, for a part of the pipeline or of a regular expression that is not supported.
  /// - Complexity: O(n) in the length of the documents.
  public init(tokenizerJSON: [UInt8], tokenizerConfigJSON: [UInt8]? = nil) throws(CheckpointError) {
    var definition = try TokenizerDocument(tokenizerJSON).definition
    if let tokenizerConfigJSON { try definition.apply(tokenizerConfigJSON) }
    do throws(CheckpointError) {
      try self.init(definition)
    } catch {
      var named = error
      named.message = "tokenizer.json: \(error.message)"
      throw named
    }
  }

  /// Creates the tokenizer described by a GGUF file.
  ///
  /// - Throws: `.unsupported` for a pre-tokenizer that is not supported; `.malformed` as
  ///   ``init(tokenizerJSON:tokenizerConfigJSON:)``.
  public init(_ tokenizer: Step3Tokenizer) throws(CheckpointError) {
    try self.init(TokenizerDefinition(tokenizer))
  }

  private static func read(_ name: String, in store: any ByteStore) throws(CheckpointError) -> [UInt8] {
    let file = try store.open(name)
    guard file.byteCount <= Step3Tokenizer.largestDocument else {
      throw CheckpointError(
        .unsupported, "expected at most \(Step3Tokenizer.largestDocument) bytes, found \(file.byteCount)",
        path: file.path)
    }
    return try file.readBytes(0..<file.byteCount)
  }
}

extension TokenizerDefinition {
  /// Applies a `tokenizer_config.json`.
  ///
  /// Source: `LlamaTokenizerFast.update_post_processor` of `transformers`, which rebuilds the post-processor.
  fileprivate mutating func apply(_ bytes: [UInt8]) throws(CheckpointError) {
    let name = "tokenizer_config.json"
    let object = try JSONObject(JSONValue.parse(bytes, name: name), place: "\(name): ")
    let kinds = ["LlamaTokenizer", "LlamaTokenizerFast", "CodeLlamaTokenizer", "CodeLlamaTokenizerFast"]
    guard let kind = try object.string("tokenizer_class"), kinds.contains(kind) else { return }
    prefix = try object.bool("add_bos_token", default: true) ? [id(object, "bos_token")] : []
    suffix = try object.bool("add_eos_token", default: false) ? [id(object, "eos_token")] : []
  }

  /// The id of a token that is named by its text, or by an object with its `content`.
  private func id(_ object: JSONObject, _ key: String) throws(CheckpointError) -> Int {
    guard let content = try object.tokenText(key) else {
      throw object.mismatch(key, "a token", object.value(key))
    }
    let wanted = Bytewise(text: content)
    if let token = addedTokens.first(where: { Bytewise(text: $0.content) == wanted }) { return token.id }
    guard let token = vocabulary.first(where: { Bytewise(text: $0.text) == wanted }) else {
      throw CheckpointError(.malformed, "\(object.place)\(key): '\(content.printable)' is not a token")
    }
    return token.id
  }
}
