internal import ByteStreams
internal import JSON
internal import TensorFormats

/// The needed parts of a `tokenizer.json`, read in one strict pass. A dictionary from text to id would not
/// do: see ``Bytewise``.
struct TokenizerFile {
  /// An entry of `added_tokens`.
  struct Added {
    var id = -1
    var content = ""
    var isSpecial = false
  }

  /// As listed in the file; a text may appear more than once.
  private(set) var vocabulary: [(text: String, id: Int)] = []
  private(set) var merges: [String] = []
  private(set) var added: [Added] = []
  private(set) var byteFallback = false
  private(set) var unknownToken: String?
  private(set) var postProcessor = JSONValue.null
  private let size: Int

  /// Reads a document.
  ///
  /// - Parameter size: The size of the model's vocabulary; all ids must be below it.
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
          guard !hasModel else { throw scanner.errorAtToken("'model' appears twice") }
          hasModel = true
          try readModel(&scanner)
        case "added_tokens" where try scanner.nextKind() == .array:
          var items = try scanner.openArray(key)
          while try scanner.nextElement(&items) { added.append(try readAdded(&scanner)) }
        case "post_processor": postProcessor = try JSONValue(&scanner)
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
          var error = scanner.errorAtToken(
            "model.type: expected BPE, found '\(type.printable)'", code: .unsupported)
          error.remedy = "without the tokenizer's files, the conversion omits the tokenizer and reports it"
          throw error
        }
      case ("vocab", _):
        guard !hasVocabulary else { throw scanner.errorAtToken("'vocab' appears twice") }
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
    var stated: Int?
    var members = try scanner.openObject("an added token")
    while let key = try scanner.nextKey(&members) {
      switch key {
      case "id": stated = try scanner.scanNonNegativeInteger("the id of a token")
      case "content":
        token.content = try scanner.scanString(key)
        hasContent = true
      case "special": token.isSpecial = try scanner.scanBool(key)
      default: try scanner.skipValue()
      }
    }
    guard let stated, hasContent else {
      throw scanner.errorAtToken("an added token: expected id and content, found only one of them")
    }
    guard stated < size else {
      throw scanner.errorAtToken(
        "added token '\(token.content.printable)': expected an id below vocab_size \(size), found \(stated)")
    }
    token.id = stated
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
