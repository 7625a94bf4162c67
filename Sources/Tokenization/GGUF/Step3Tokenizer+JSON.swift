internal import Checkpoint
internal import JSON
public import Step3Model
public import TensorFormats

extension Step3Tokenizer {
  /// The largest `tokenizer.json` that is read; DeepSeek-V3's has 8 MB.
  package static let largestDocument = 128 << 20

  /// The maximum number of ids filled with `[PAD<id>]`, so that a bogus `vocab_size` does not use up memory.
  package static let largestPadding = 1 << 20

  /// The files of a checkpoint that describe its tokenizer.
  public struct Documents: Sendable {
    /// `tokenizer.json`.
    public var tokenizer: [UInt8]
    /// `tokenizer_config.json`.
    public var tokenizerConfiguration: [UInt8]?
    /// `generation_config.json`.
    public var generationConfiguration: [UInt8]?
    /// `config.json`.
    public var modelConfiguration: [UInt8]?
    /// `chat_template.jinja`.
    public var chatTemplate: [UInt8]?
    /// `chat_template.json`.
    public var chatTemplateJSON: [UInt8]?
    /// `additional_chat_templates/<name>.jinja`, by name.
    public var namedChatTemplates: [(name: String, text: [UInt8])] = []

    /// Creates a value with the one required file.
    public init(tokenizer: [UInt8]) { self.tokenizer = tokenizer }
  }

  /// Reads a tokenizer from three of its files.
  ///
  /// As ``init(_:configuration:preTokenizer:)``.
  public init(
    tokenizerJSON: [UInt8], tokenizerConfigJSON: [UInt8]? = nil, generationConfigJSON: [UInt8]? = nil,
    configuration: Step3Configuration, preTokenizer: String
  ) throws(CheckpointError) {
    var documents = Documents(tokenizer: tokenizerJSON)
    documents.tokenizerConfiguration = tokenizerConfigJSON
    documents.generationConfiguration = generationConfigJSON
    try self.init(documents, configuration: configuration, preTokenizer: preTokenizer)
  }

  /// Reads a tokenizer.
  ///
  /// Tokens have the ids that the `tokenizers` library and `transformers` assign. Special tokens and those added around
  /// a text are determined as by `SpecialVocab` of the `gguf` package: `tokenizer_config.json` first, then the
  /// configurations. ``notes`` lists what could not be taken over unchanged.
  ///
  /// - Parameters:
  ///   - documents: The tokenizer's files.
  ///   - configuration: Special tokens where no other file names any, and the vocabulary size, up to which ids
  ///     without a token are filled with unused `[PAD<id>]`.
  ///   - preTokenizer: The pre-tokenizer's name in `tokenizer.ggml.pre`; see `PreTokenizerRecognition`.
  /// - Throws: `.malformed`, prefixed with the file's name, for an id outside the vocabulary or shared by two texts,
  ///   and for an invalid document; `.unsupported` for models other than BPE.
  /// - Complexity: O(n) in the length of the documents.
  public init(
    _ documents: Documents, configuration: Step3Configuration, preTokenizer: String
  ) throws(CheckpointError) {
    let size = configuration.text.vocabularySize
    let file = try TokenizerFile(documents.tokenizer, size: size)
    var placement = try TokenPlacement(file, size: size)
    let companion = try Self.object(documents.tokenizerConfiguration, "tokenizer_config.json")
    if let decoder = try companion?.object("added_tokens_decoder") { try placement.add(decoder: decoder) }
    var special = try SpecialTokenNames(companion)
    for text in special.texts.values { placement.markSpecial(text) }
    for text in special.further { placement.markSpecial(text) }
    placement.finish()
    try special.apply(postProcessor: file.postProcessor)

    self.init(
      tokens: placement.tokens, types: placement.types, merges: file.merges, preTokenizer: preTokenizer)
    readingNotes = placement.notes + special.notes
    try resolve(special, ids: placement.ids, documents, configuration)
    try readChatTemplates(documents, companion)
  }

  static func object(_ bytes: [UInt8]?, _ name: String) throws(CheckpointError) -> JSONObject? {
    guard let bytes else { return nil }
    return try JSONObject(JSONValue.parse(bytes, name: name), place: "\(name): ")
  }

  /// Resolves names to ids; tokens without a name get the id from a configuration.
  private mutating func resolve(
    _ special: SpecialTokenNames, ids: [Bytewise: Int], _ documents: Documents,
    _ configuration: Step3Configuration
  ) throws(CheckpointError) {
    let range = 0...(tokens.count - 1)
    let generation = try Self.object(documents.generationConfiguration, "generation_config.json")
    let model = try Self.object(documents.modelConfiguration, "config.json")
    func named(_ kind: String) -> Int? { special.texts[kind].flatMap { ids[Bytewise(text: $0)] } }
    func stated(_ key: String) throws(CheckpointError) -> [Int] {
      try generation?.tokenIDs(key, in: range) ?? []
    }

    let (start, filler) = (try stated("bos_token_id").first, try stated("pad_token_id").first)
    bosTokenID = named("bos") ?? start ?? configuration.bosTokenID
    padTokenID = named("pad") ?? filler ?? configuration.padTokenID
    let ends = try stated("eos_token_id")
    let texts = [special.texts["eos"]] + special.earlierEnds + [special.texts["eot"], special.texts["eom"]]
    for id in texts.map({ $0.flatMap { ids[Bytewise(text: $0)] } })
      + (ends.isEmpty ? configuration.eosTokenIDs : ends)
    {
      if let id, !eosTokenIDs.contains(id) { eosTokenIDs.append(id) }
    }
    for token in SpecialToken.allCases {
      let key = "\(token.rawValue)_token_id"
      var id = named(token.rawValue)
      if id == nil { id = try model?.tokenIDs(key, in: range).first }
      if id == nil { id = try model?.object("text_config")?.tokenIDs(key, in: range).first }
      specialTokenIDs[token] = id
    }
    if let id = named("cls"), id != bosTokenID {
      readingNotes.append(
        Note("cls token \(id)", "a GGUF cannot store it in addition to the token that starts a text"))
    }
    for (kind, text) in special.texts.sorted(by: { $0.key < $1.key }) where ids[Bytewise(text: text)] == nil {
      readingNotes.append(
        Note(
          "\(kind) token '\(text.printable)'",
          "tokenizer_config.json names it, but tokenizer.json has no such token"))
    }
    for id in [bosTokenID, padTokenID].compactMap(\.self) + eosTokenIDs
    where !types.indices.contains(id) || types[id] == .unused {
      readingNotes.append(Note("special token \(id)", "the configurations name it, but no token has this id"))
    }

    addsBosToken = special.adds["bos"] ?? false
    addsEosToken = special.adds["eos"]
    addsSeparatorToken = special.adds["sep"]
    // llama.cpp aborts if it is told to add an unknown token.
    if addsBosToken, bosTokenID == nil {
      addsBosToken = false
      readingNotes.append(Note("add_bos_token", "no file specifies the token that starts a text"))
    }
    if addsEosToken == true, eosTokenIDs.isEmpty {
      addsEosToken = false
      readingNotes.append(Note("add_eos_token", "no file specifies the token that ends a text"))
    }
  }
}
