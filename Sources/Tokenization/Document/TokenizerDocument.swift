internal import ByteStreams
internal import JSON
internal import TensorFormats

/// Reads a `tokenizer.json` in one strict pass.
struct TokenizerDocument {
  private(set) var definition = TokenizerDefinition()
  private var steps: [String: JSONValue] = [:]
  private var highestID: Int { (1 << 31) - 1 }

  /// Reads a document.
  ///
  /// `truncation` and `padding` are ignored: they concern batches, and are switched off when tokenizers are loaded
  /// for language models.
  ///
  /// - Parameter isForText: Whether to read only the processing of text, ignoring added special tokens and decoding.
  /// - Throws: `.malformed` for violations of the format, `.unsupported` for an unsupported part of the pipeline, by
  ///   its name.
  init(_ bytes: [UInt8], isForText: Bool = false) throws(CheckpointError) {
    guard bytes.count <= Step3Tokenizer.largestDocument else {
      throw CheckpointError(
        .unsupported,
        "tokenizer.json: expected at most \(Step3Tokenizer.largestDocument) bytes, found \(bytes.count)")
    }
    do throws(CheckpointError) {
      var scanner = unsafe JSONScanner(bytes.span.bytes)
      try read(&scanner, isForText: isForText)
    } catch {
      var named = error.explained(prefix: bytes, byteCount: bytes.count, as: .json)
      named.message = "tokenizer.json: \(named.message)"
      throw named
    }
  }

  private mutating func read(_ scanner: inout JSONScanner, isForText: Bool) throws(CheckpointError) {
    var seen: Set<String> = []
    var members = try scanner.openObject("the document")
    while let key = try scanner.nextKey(&members) {
      guard seen.insert(key).inserted else { throw scanner.errorAtToken("'\(key.printable)' appears twice") }
      switch key {
      case "model": try readModel(&scanner)
      case "added_tokens":
        guard try !scanner.scanNull() else { continue }
        var items = try scanner.openArray(key)
        while try scanner.nextElement(&items) { definition.addedTokens.append(try readAdded(&scanner)) }
      case "normalizer", "pre_tokenizer", "post_processor", "decoder": steps[key] = try JSONValue(&scanner)
      case "version":
        let version = try scanner.scanString(key)
        guard version == "1.0" else {
          throw scanner.errorAtToken(
            "version: expected 1.0, found '\(version.printable)'", code: .unsupported)
        }
      default: try scanner.skipValue()
      }
    }
    try scanner.finish()
    guard seen.contains("model") else { throw CheckpointError(.malformed, "expected a model, found none") }
    definition.normalizer = try Normalizer(steps["normalizer"] ?? .null)
    definition.preTokenizer = try PreTokenizer(steps["pre_tokenizer"] ?? .null)
    guard !isForText else { return }
    try readPostProcessor(steps["post_processor"] ?? .null)
    definition.decodesBytes = try Self.isByteLevelDecoder(steps["decoder"] ?? .null)
  }

  // MARK: The model

  private mutating func readModel(_ scanner: inout JSONScanner) throws(CheckpointError) {
    var seen: Set<String> = []
    var members = try scanner.openObject("model")
    while let key = try scanner.nextKey(&members) {
      guard seen.insert(key).inserted else {
        throw scanner.errorAtToken("model: '\(key.printable)' appears twice")
      }
      switch key {
      case "type":
        let type = try scanner.scanString(key)
        guard type == "BPE" else {
          throw scanner.errorAtToken(
            "model.type: expected BPE, found '\(type.printable)'", code: .unsupported)
        }
      case "vocab":
        var entries = try scanner.openObject(key)
        while let text = try scanner.nextKey(&entries) {
          definition.vocabulary.append((text, try readID(&scanner)))
        }
      case "merges":
        var items = try scanner.openArray(key)
        while try scanner.nextElement(&items) { definition.merges.append(try readMerge(&scanner)) }
      case "byte_fallback": definition.usesByteFallback = try flag(&scanner, key)
      case "fuse_unk": definition.fusesUnknown = try flag(&scanner, key)
      case "ignore_merges": definition.ignoresMerges = try flag(&scanner, key)
      case "unk_token": definition.unknownToken = try text(&scanner, key)
      case "continuing_subword_prefix", "end_of_word_suffix":
        guard try (text(&scanner, key) ?? "").isEmpty else {
          throw scanner.errorAtToken("model.\(key): expected none, found one", code: .unsupported)
        }
      case "dropout":
        guard try !scanner.scanNull() else { continue }
        guard Double(try scanner.scanNumberText(key)) == 0 else {
          throw scanner.errorAtToken("model.dropout: expected none, found one", code: .unsupported)
        }
      default: try scanner.skipValue()
      }
    }
    guard seen.contains("vocab"), seen.contains("merges") else {
      throw scanner.errorAtToken("model: expected vocab and merges, found only one or neither")
    }
  }

  private func flag(_ scanner: inout JSONScanner, _ key: String) throws(CheckpointError) -> Bool {
    guard try !scanner.scanNull() else { return false }
    return try scanner.scanBool(key)
  }

  private func text(_ scanner: inout JSONScanner, _ key: String) throws(CheckpointError) -> String? {
    guard try !scanner.scanNull() else { return nil }
    return try scanner.scanString(key)
  }

  private func readID(_ scanner: inout JSONScanner) throws(CheckpointError) -> Int {
    let id = try scanner.scanNonNegativeInteger("the id of a token")
    guard id <= highestID else {
      throw scanner.errorAtToken("expected an id of at most \(highestID), found \(id)")
    }
    return id
  }

  /// Old files have `"a b"`, new ones `["a", "b"]`, whose parts may contain spaces.
  private func readMerge(_ scanner: inout JSONScanner) throws(CheckpointError) -> (
    left: String, right: String
  ) {
    var parts: [String] = []
    if try scanner.nextKind() == .array {
      var items = try scanner.openArray("a merge")
      while try scanner.nextElement(&items) {
        guard parts.count < 2 else {
          throw scanner.errorAtToken("expected two tokens in a merge, found more")
        }
        parts.append(try scanner.scanString("a part of a merge"))
      }
    } else {
      let text = try scanner.scanString("a merge")
      parts = text.unicodeScalars.split(separator: " ", omittingEmptySubsequences: false).map { String($0) }
    }
    guard parts.count == 2 else {
      throw scanner.errorAtToken("expected two tokens in a merge, found \(parts.count)")
    }
    return (parts[0], parts[1])
  }

  private func readAdded(_ scanner: inout JSONScanner) throws(CheckpointError) -> AddedToken {
    var token = AddedToken(id: -1, content: "")
    var seen: Set<String> = []
    var members = try scanner.openObject("an added token")
    while let key = try scanner.nextKey(&members) {
      guard seen.insert(key).inserted else {
        throw scanner.errorAtToken("an added token: '\(key.printable)' appears twice")
      }
      switch key {
      case "id": token.id = try readID(&scanner)
      case "content": token.content = try scanner.scanString(key)
      case "special": token.isSpecial = try scanner.scanBool(key)
      case "single_word": token.isSingleWord = try scanner.scanBool(key)
      case "lstrip": token.stripsLeft = try scanner.scanBool(key)
      case "rstrip": token.stripsRight = try scanner.scanBool(key)
      case "normalized": token.isNormalized = try scanner.scanBool(key)
      default: try scanner.skipValue()
      }
    }
    for key in ["id", "content", "special", "single_word", "lstrip", "rstrip", "normalized"]
    where !seen.contains(key) {
      throw scanner.errorAtToken("an added token: expected '\(key)', found none")
    }
    return token
  }

  // MARK: After the model

  /// Byte-level offsets, which do not affect tokens, and templates; one or several.
  private mutating func readPostProcessor(_ value: JSONValue) throws(CheckpointError) {
    for step in try PipelineStep.flattened(value, place: "post_processor", list: "processors") {
      switch step.type {
      case "ByteLevel": break
      case "TemplateProcessing": try readTemplate(step)
      default: throw step.unknown
      }
    }
  }

  /// No published tokenizer adds more than two around a text.
  private static let mostTemplateTokens = 256

  /// The template of a single text: special tokens around it.
  private mutating func readTemplate(_ step: PipelineStep) throws(CheckpointError) {
    guard case .array(let pieces)? = step.object.value("single") else {
      throw step.object.mismatch("single", "a list", step.object.value("single"))
    }
    let table = try step.object.object("special_tokens")
    var prefix: [Int] = []
    var suffix: [Int] = []
    var hasText = false
    for (index, piece) in pieces.enumerated() {
      let place = "\(step.object.place)single[\(index)]."
      let object = try JSONObject(piece, place: place)
      if let sequence = try object.object("Sequence") {
        guard try sequence.string("id") == "A", !hasText else {
          throw CheckpointError(.malformed, "\(place)Sequence: expected text A, once")
        }
        hasText = true
      } else if let special = try object.object("SpecialToken"), let name = try special.string("id") {
        guard let entry = try table?.object(name) else {
          throw CheckpointError(
            .malformed, "\(place)SpecialToken: expected '\(name.printable)' in special_tokens")
        }
        let ids = try entry.integers("ids", in: 0...highestID)
        // A few bytes can reference a list of any length, repeatedly.
        guard prefix.count + suffix.count + ids.count <= Self.mostTemplateTokens else {
          throw CheckpointError(
            .unsupported,
            "\(place)SpecialToken: more than \(Self.mostTemplateTokens) tokens around every text")
        }
        if hasText { suffix += ids } else { prefix += ids }
      } else {
        throw CheckpointError(.malformed, "\(place) expected Sequence or SpecialToken, found neither")
      }
    }
    guard hasText else {
      throw CheckpointError(.malformed, "\(step.object.place)single: expected text A, found none")
    }
    // A second template wraps the result of the first.
    definition.prefix = prefix + definition.prefix
    definition.suffix += suffix
  }

  /// Whether tokens are decoded by the byte alphabet; without a decoder they are joined by spaces.
  private static func isByteLevelDecoder(_ value: JSONValue) throws(CheckpointError) -> Bool {
    let steps = try PipelineStep.flattened(value, place: "decoder", list: "decoders")
    for step in steps where step.type != "ByteLevel" { throw step.unknown }
    guard steps.count <= 1 else {
      throw CheckpointError(.unsupported, "decoder: expected one ByteLevel, found \(steps.count)")
    }
    return !steps.isEmpty
  }
}
