internal import ByteStreams
internal import Safetensors
public import TensorFormats

extension Step3Tokenizer {
  /// The longest `tokenizer.json` that is read; that of DeepSeek-V3 has 8 MB.
  package static let largestDocument = 128 << 20

  /// The most ids that are filled with `[PAD<id>]`, so that a `vocab_size` without tokens behind it takes no memory.
  package static let largestPadding = 1 << 20

  /// Reads a tokenizer.
  ///
  /// - Parameters:
  ///   - tokenizerJSON: The bytes of `tokenizer.json`.
  ///   - tokenizerConfigJSON: The bytes of `tokenizer_config.json`: chat template, `add_bos_token`.
  ///   - generationConfigJSON: The bytes of `generation_config.json`, whose special tokens win.
  ///   - configuration: Special tokens otherwise, and the vocabulary size, up to which ids without a token are filled
  ///     with unused `[PAD<id>]`.
  /// - Throws: `.malformed` for an id outside the vocabulary, an id or a text that is there twice, or a document that
  ///   is no such file; `.unsupported` for another kind of model than BPE.
  /// - Complexity: O(n) in the length of the documents.
  public init(
    tokenizerJSON: [UInt8], tokenizerConfigJSON: [UInt8]? = nil, generationConfigJSON: [UInt8]? = nil,
    configuration: Step3Configuration
  ) throws(CheckpointError) {
    let size = configuration.text.vocabularySize
    let file = try TokenizerFile(tokenizerJSON, size: size)
    var (tokens, types) = try Self.placed(file, size: size)
    for id in tokens.indices where types[id] == .unused { tokens[id] = Self.padding(id) }
    self.init(
      tokens: tokens, types: types, merges: file.merges, bosTokenID: configuration.bosTokenID,
      eosTokenIDs: configuration.eosTokenIDs, padTokenID: configuration.padTokenID)
    if let generationConfigJSON { try readGenerationConfig(generationConfigJSON) }
    if let tokenizerConfigJSON { try readTokenizerConfig(tokenizerConfigJSON) }
  }

  /// The text of an id without a token, as llama.cpp's converter writes it.
  package static func padding(_ id: Int) -> String { "[PAD\(id)]" }

  /// Every token at its id; ids without one are empty and unused.
  private static func placed(
    _ file: TokenizerFile, size: Int
  ) throws(CheckpointError) -> ([String], [TokenType]) {
    guard size - file.vocabulary.count <= largestPadding else {
      throw CheckpointError(
        .malformed,
        "tokenizer.json: expected at most \(largestPadding) tokens fewer than vocab_size \(size), found \(file.vocabulary.count) tokens"
      )
    }
    var tokens = Array(repeating: "", count: size)
    var types = Array(repeating: TokenType.unused, count: size)
    var seen = Set<Bytewise>(minimumCapacity: file.vocabulary.count)
    for (text, id) in file.vocabulary {
      guard types[id] == .unused else {
        throw CheckpointError(
          .malformed, "tokenizer.json: expected one token with id \(id), found a second: '\(text.printable)'")
      }
      guard seen.insert(Bytewise(text: text)).inserted else {
        throw CheckpointError(
          .malformed, "tokenizer.json: expected token '\(text.printable)' once, found it again with id \(id)")
      }
      tokens[id] = text
      let isByte = file.byteFallback && text.utf8.count == 6 && text.hasPrefix("<0x") && text.hasSuffix(">")
      types[id] = isByte ? .byte : text == file.unknownToken ? .unknown : .normal
    }
    for token in file.added {
      tokens[token.id] = token.content
      types[token.id] = token.isSpecial ? .control : .userDefined
    }
    return (tokens, types)
  }

  private mutating func readGenerationConfig(_ bytes: [UInt8]) throws(CheckpointError) {
    let name = "generation_config.json"
    let object = try JSONObject(JSONValue.parse(bytes, name: name), place: "\(name): ")
    let ids = 0...(tokens.count - 1)
    bosTokenID = try object.integers("bos_token_id", in: ids).first ?? bosTokenID
    let ends = try object.integers("eos_token_id", in: ids)
    if !ends.isEmpty { eosTokenIDs = ends }
    padTokenID = try object.integers("pad_token_id", in: ids).first ?? padTokenID
  }

  private mutating func readTokenizerConfig(_ bytes: [UInt8]) throws(CheckpointError) {
    let name = "tokenizer_config.json"
    let object = try JSONObject(JSONValue.parse(bytes, name: name), place: "\(name): ")
    addsBosToken = try object.bool("add_bos_token", default: false)
    // A list of named templates also occurs; GGUF has one place only.
    if case .string(let template)? = object.value("chat_template") { chatTemplate = template }
  }
}

/// Text compared byte by byte. Swift takes canonically equivalent spellings for equal, and a vocabulary has both
/// composed and decomposed ones as tokens of their own.
package struct Bytewise: Hashable, Sendable {
  package let text: String

  package init(text: String) { self.text = text }

  package static func == (left: Bytewise, right: Bytewise) -> Bool {
    left.text.utf8.elementsEqual(right.text.utf8)
  }

  package func hash(into hasher: inout Hasher) {
    var text = text
    text.withUTF8 { unsafe hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
  }
}

/// What is needed of a `tokenizer.json`, in one strict pass. A dictionary from text to id would not do: see
/// ``Bytewise``.
private struct TokenizerFile {
  struct Added {
    var id = -1
    var content = ""
    var isSpecial = false
  }
  var vocabulary: [(text: String, id: Int)] = []
  var merges: [String] = []
  var added: [Added] = []
  var byteFallback = false
  var unknownToken: String?
  private let size: Int

  init(_ bytes: [UInt8], size: Int) throws(CheckpointError) {
    self.size = size
    guard bytes.count <= Step3Tokenizer.largestDocument else {
      throw CheckpointError(
        .malformed,
        "tokenizer.json: expected at most \(Step3Tokenizer.largestDocument) bytes, found \(bytes.count)")
    }
    do throws(CheckpointError) {
      var scanner = unsafe JSONScanner(bytes.span.bytes)
      var hasModel = false
      var members = try scanner.openObject("the document")
      while let key = try scanner.nextKey(&members) {
        switch key {
        case "model":
          guard !hasModel else { throw scanner.errorAtToken("'model' is there twice") }
          hasModel = true
          try readModel(&scanner)
        case "added_tokens" where try scanner.nextKind() == .array:
          var items = try scanner.openArray(key)
          while try scanner.nextElement(&items) { added.append(try readAdded(&scanner)) }
        default: try scanner.skipValue()
        }
      }
      try scanner.finish()
      guard hasModel else { throw CheckpointError(.malformed, "expected a model, found none") }
    } catch {
      var named = error.explained(prefix: bytes, byteCount: bytes.count, as: .json)
      named.message = "tokenizer.json: \(named.message)"
      throw named
    }
  }

  private mutating func readModel(_ scanner: inout JSONScanner) throws(CheckpointError) {
    var hasVocabulary = false
    var members = try scanner.openObject("model")
    while let key = try scanner.nextKey(&members) {
      switch (key, try scanner.nextKind()) {
      case ("type", .string):
        let type = try scanner.scanString(key)
        guard type == "BPE" else {
          throw scanner.errorAtToken(
            "model.type: expected BPE, found '\(type.printable)'", code: .unsupported)
        }
      case ("vocab", _):
        guard !hasVocabulary else { throw scanner.errorAtToken("'vocab' is there twice") }
        hasVocabulary = true
        vocabulary.reserveCapacity(min(size, 1 << 18))
        var entries = try scanner.openObject(key)
        while let text = try scanner.nextKey(&entries) {
          vocabulary.append((text, try readID(&scanner, text)))
        }
      case ("merges", .array):
        var items = try scanner.openArray(key)
        while try scanner.nextElement(&items) { merges.append(try readMerge(&scanner)) }
      case ("byte_fallback", .bool): byteFallback = try scanner.scanBool(key)
      case ("unk_token", .string): unknownToken = try scanner.scanString(key)
      default: try scanner.skipValue()
      }
    }
    guard hasVocabulary else { throw scanner.errorAtToken("model: expected a vocab, found none") }
  }

  private func readID(_ scanner: inout JSONScanner, _ text: String) throws(CheckpointError) -> Int {
    let id = try scanner.scanNonNegativeInteger("the id of a token")
    guard id < size else {
      throw scanner.errorAtToken(
        "token '\(text.printable)': expected an id below vocab_size \(size), found \(id)")
    }
    return id
  }

  /// Old files have `"a b"`, new ones `["a", "b"]`.
  private func readMerge(_ scanner: inout JSONScanner) throws(CheckpointError) -> String {
    let merge: String
    if try scanner.nextKind() == .array {
      var pair: [String] = []
      var items = try scanner.openArray("a merge")
      while try scanner.nextElement(&items) {
        let part = try scanner.scanString("a part of a merge")
        pair.append(part)
        guard pair.count <= 2, !part.utf8.contains(UInt8(ascii: " ")) else {
          throw scanner.errorAtToken("expected two tokens without a space in a merge")
        }
      }
      merge = pair.joined(separator: " ")
    } else {
      merge = try scanner.scanString("a merge")
    }
    guard Step3Tokenizer.isPair(merge) else {
      throw scanner.errorAtToken("expected two tokens in a merge, found '\(merge.printable)'")
    }
    return merge
  }

  private func readAdded(_ scanner: inout JSONScanner) throws(CheckpointError) -> Added {
    var token = Added()
    var hasContent = false
    var members = try scanner.openObject("an added token")
    while let key = try scanner.nextKey(&members) {
      switch key {
      case "id": token.id = try readID(&scanner, "added")
      case "content":
        token.content = try scanner.scanString(key)
        hasContent = true
      case "special": token.isSpecial = try scanner.scanBool(key)
      default: try scanner.skipValue()
      }
    }
    guard token.id >= 0, hasContent else {
      throw scanner.errorAtToken("an added token: expected id and content, found only one of them")
    }
    return token
  }
}

extension Step3Tokenizer {
  /// Whether a merge is two texts with one space between them.
  static func isPair(_ merge: String) -> Bool {
    let space = UInt8(ascii: " ")
    var spaces = 0
    for byte in merge.utf8 where byte == space { spaces += 1 }
    return spaces == 1 && merge.utf8.first != space && merge.utf8.last != space
  }
}
