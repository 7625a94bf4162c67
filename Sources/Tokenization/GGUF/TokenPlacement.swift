internal import JSON
internal import TensorFormats

/// Assigns every token its id and its type as the `tokenizers` library and `transformers` do, with which the model was
/// trained and is served.
///
/// Where a file contradicts itself, they are followed: the last of two ids for a text wins; an added token whose text
/// is in the vocabulary keeps its id there; any other gets the next free id, whatever its file says. A GGUF file has
/// one text per id and every text once, so each such case gives a note.
struct TokenPlacement {
  private(set) var tokens: [String]
  private(set) var types: [Step3Tokenizer.TokenType]
  private(set) var notes: [Step3Tokenizer.Note] = []
  private(set) var ids: [Bytewise: Int] = [:]
  /// The id that the library assigns to the next added token.
  private var next = 0
  private var renumbered: [String] = []

  init(_ file: TokenizerFile, size: Int) throws(CheckpointError) {
    guard size - file.vocabulary.count <= Step3Tokenizer.largestPadding else {
      throw CheckpointError(
        .malformed,
        "tokenizer.json: expected at most \(Step3Tokenizer.largestPadding) tokens fewer than vocab_size \(size), found \(file.vocabulary.count) tokens"
      )
    }
    tokens = Array(repeating: "", count: size)
    types = Array(repeating: .unused, count: size)
    ids.reserveCapacity(file.vocabulary.count)
    var repeated: [String] = []
    for (text, id) in file.vocabulary {
      if let earlier = ids.updateValue(id, forKey: Bytewise(text: text)), earlier != id {
        repeated.append("'\(text.printable)' (\(earlier) and \(id))")
      }
    }
    note(
      repeated, "tokenizer.json gives the text two ids; the last one is used, as in the tokenizers library")
    for (text, id) in file.vocabulary where ids[Bytewise(text: text)] == id {
      guard types[id] == .unused || Bytewise(text: tokens[id]) == Bytewise(text: text) else {
        throw CheckpointError(
          .malformed,
          "tokenizer.json: expected one token with id \(id), found '\(tokens[id].printable)' and '\(text.printable)'"
        )
      }
      tokens[id] = text
      let isByte = file.byteFallback && text.utf8.count == 6 && text.hasPrefix("<0x") && text.hasSuffix(">")
      let isUnknown = file.unknownToken.map { Bytewise(text: $0) } == Bytewise(text: text)
      types[id] = isByte ? .byte : isUnknown ? .unknown : .normal
    }
    next = ids.count
    for token in file.added { try add(token, document: "tokenizer.json") }
  }

  /// Adds an added token.
  private mutating func add(_ token: TokenizerFile.Added, document: String) throws(CheckpointError) {
    guard !token.content.isEmpty else { return }
    let type: Step3Tokenizer.TokenType = token.isSpecial ? .control : .userDefined
    let key = Bytewise(text: token.content)
    var id: Int
    if let known = ids[key] {
      id = known
    } else {
      id = next
      next += 1
      // In a vocabulary with gaps, the library's id may belong to another token, and two tokens would share it.
      if id != token.id, id < tokens.count, types[id] != .unused { id = token.id }
      guard id < tokens.count else {
        throw CheckpointError(
          .malformed,
          "\(document): added token '\(token.content.printable)' has id \(token.id), which another token has, and the next free one, \(id), is not below vocab_size \(tokens.count)"
        )
      }
      guard types[id] == .unused else {
        throw CheckpointError(
          .malformed,
          "\(document): expected one token with id \(id), found '\(tokens[id].printable)' and '\(token.content.printable)'"
        )
      }
      ids[key] = id
    }
    if id != token.id { renumbered.append("'\(token.content.printable)' (\(token.id), now \(id))") }
    tokens[id] = token.content
    types[id] = type
  }

  /// Applies the `added_tokens_decoder` of a `tokenizer_config.json`: tokens that `tokenizer.json` lacks, and whether
  /// known ones are special.
  mutating func add(decoder: JSONObject) throws(CheckpointError) {
    var entries: [TokenizerFile.Added] = []
    for (number, value) in decoder.values {
      guard let id = Int(number), tokens.indices.contains(id) else {
        throw CheckpointError(
          .malformed,
          "\(decoder.place) expected ids below vocab_size \(tokens.count), found '\(number.printable)'")
      }
      let object = try JSONObject(value, place: "\(decoder.place)\(number).")
      guard let content = try object.string("content") else {
        throw object.mismatch("content", "a token", nil)
      }
      entries.append(.init(id: id, content: content, isSpecial: try object.bool("special", default: false)))
    }
    for entry in entries.sorted(by: { $0.id < $1.id }) {
      try add(entry, document: "tokenizer_config.json")
    }
  }

  /// Marks a token as special because a file names it as such.
  mutating func markSpecial(_ text: String) {
    guard let id = ids[Bytewise(text: text)], types[id] == .normal || types[id] == .userDefined else {
      return
    }
    types[id] = .control
  }

  /// Gives ids without a token a unique text.
  mutating func finish() {
    note(
      renumbered,
      "the files give the added token a different id than the tokenizers library, whose id is used")
    for id in tokens.indices where types[id] == .unused {
      var text = Step3Tokenizer.padding(id)
      while ids[Bytewise(text: text)] != nil { text += "_" }
      tokens[id] = text
    }
  }

  private mutating func note(_ tokens: [String], _ reason: String) {
    guard !tokens.isEmpty else { return }
    let rest = tokens.count > 5 ? " and \(tokens.count - 5) more" : ""
    let what = "token \(tokens.prefix(5).joined(separator: ", "))\(rest)"
    notes.append(Step3Tokenizer.Note(what, reason))
  }
}

extension Step3Tokenizer {
  /// The text of an id without a token, as llama.cpp's converter writes it.
  package static func padding(_ id: Int) -> String { "[PAD\(id)]" }

  /// Whether an id has no token. Other tools also write unused tokens with their own text.
  package func isPadding(_ id: Int) -> Bool {
    types[id] == .unused && tokens[id].hasPrefix(Self.padding(id))
  }
}
