internal import JSON
internal import Step3Model
internal import TensorFormats

extension Step3Tokenizer {
  /// A special token other than bos, eos and pad: its name in `tokenizer_config.json` is the raw value followed by
  /// `_token`.
  public enum SpecialToken: String, Hashable, Sendable, CaseIterable {
    case unknown = "unk"
    case separator = "sep"
    case mask
    case fillPrefix = "fim_pre"
    case fillSuffix = "fim_suf"
    case fillMiddle = "fim_mid"
    case fillPadding = "fim_pad"
    case fillRepository = "fim_rep"
    case fillSeparator = "fim_sep"

    /// The key in GGUF, spelled as the format spells it.
    var ggufKey: String {
      switch self {
      case .unknown: "tokenizer.ggml.unknown_token_id"
      case .separator: "tokenizer.ggml.seperator_token_id"
      default: "tokenizer.ggml.\(rawValue)_token_id"
      }
    }
  }
}

/// Which tokens are special, by their texts, and which of them are added around a text.
///
/// Source of the rules: `SpecialVocab` of the `gguf` package 0.19, which only looks at the ends of a template. Where it
/// would mistake an unusual template for a usual one, there is a note.
struct SpecialTokenNames {
  /// By kind: `bos`, `eos` and so on.
  private(set) var texts: [String: String] = [:]
  /// Special tokens without a kind.
  private(set) var further: [String] = []
  /// The end tokens that a template has replaced.
  private(set) var earlierEnds: [String?] = []
  /// By kind, whether the token is added around texts.
  private(set) var adds: [String: Bool] = [:]
  private(set) var notes: [Step3Tokenizer.Note] = []
  private let hasCompanion: Bool
  private var statedAdds: [String: Bool] = [:]

  private static let kinds =
    ["bos", "eos", "eot", "eom", "pad", "cls"] + Step3Tokenizer.SpecialToken.allCases.map(\.rawValue)

  /// Reads a `tokenizer_config.json`.
  init(_ companion: JSONObject?) throws(CheckpointError) {
    hasCompanion = companion != nil
    guard let companion else { return }
    for kind in Self.kinds { texts[kind] = try companion.tokenText("\(kind)_token") }
    for kind in ["bos", "eos", "sep"] where companion.value("add_\(kind)_token") != nil {
      statedAdds[kind] = try companion.bool("add_\(kind)_token", default: false)
    }
    for key in ["additional_special_tokens", "extra_special_tokens"] {
      switch companion.value(key) {
      case .array(let items)?: further += items.compactMap(Self.text)
      case .object(let members)?: further += members.values.compactMap(Self.text)
      default: break
      }
    }
    texts["bos"] = texts["bos"] ?? texts["cls"]
    texts["eos"] = texts["eos"] ?? texts["sep"]
  }

  private static func text(_ value: JSONValue) -> String? {
    switch value {
    case .string(let text): return text
    case .object(let members):
      guard case .string(let text)? = members["content"] else { return nil }
      return text
    default: return nil
    }
  }

  /// Applies the `post_processor` of a `tokenizer.json`. The settings of `tokenizer_config.json` for adding tokens take
  /// precedence.
  mutating func apply(postProcessor: JSONValue) throws(CheckpointError) {
    if postProcessor != .null {
      let object = try JSONObject(postProcessor, place: "tokenizer.json: post_processor.")
      if case .array(let steps)? = object.value("processors") {
        for (index, step) in steps.enumerated() {
          try apply(JSONObject(step, place: "\(object.place)processors[\(index)]."))
        }
      } else {
        try apply(object)
      }
    }
    for (kind, value) in statedAdds { adds[kind] = value }
  }

  private mutating func apply(_ processor: JSONObject) throws(CheckpointError) {
    switch try processor.string("type") {
    case "ByteLevel": break
    case "TemplateProcessing":
      let single = try Self.pieces(processor, "single")
      try apply(single: single)
      apply(pair: try Self.pieces(processor, "pair"), single: single)
    case "RobertaProcessing":
      for kind in ["bos", "eos", "sep"] { adds[kind] = true }
      for (kind, other) in [("cls", "bos"), ("sep", "eos")] where texts[kind] == nil {
        if case .array(let entry)? = processor.value(kind), case .string(let text)? = entry.first {
          texts[kind] = text
        } else {
          texts[kind] = texts[other]
        }
      }
    case let other:
      notes.append(
        Step3Tokenizer.Note(
          "post_processor \(other?.printable ?? "without a type")",
          "the tokens that it adds around texts are not carried over"
        ))
    }
  }

  /// A piece of a template: the text of a special token, or the name of a sequence.
  private enum Piece: Equatable {
    case special(String)
    case sequence(String)
  }

  private static func pieces(_ processor: JSONObject, _ key: String) throws(CheckpointError) -> [Piece] {
    guard let value = processor.value(key) else { return [] }
    guard case .array(let items) = value else { throw processor.mismatch(key, "a list", value) }
    var pieces: [Piece] = []
    for (index, item) in items.enumerated() {
      let object = try JSONObject(item, place: "\(processor.place)\(key)[\(index)].")
      if let id = try object.object("SpecialToken")?.string("id") {
        pieces.append(.special(id))
      } else if let id = try object.object("Sequence")?.string("id") {
        pieces.append(.sequence(id))
      } else {
        throw CheckpointError(.malformed, "\(object.place) expected Sequence or SpecialToken, found neither")
      }
    }
    return pieces
  }

  private mutating func apply(single: [Piece]) throws(CheckpointError) {
    guard single.count > 1 else { return }
    if case .special(let first)? = single.first {
      if !hasCompanion || texts["bos"] == nil { texts["bos"] = first }
      adds["bos"] = first == texts["bos"] || first == texts["cls"]
    }
    if case .special(let last)? = single.last {
      if let end = texts["eos"], end != last { earlierEnds.append(end) }
      texts["eos"] = last
      adds["eos"] = true
    }
    let expected: [Piece?] = [
      adds["bos"] == true ? texts["bos"].map { .special($0) } : nil, .sequence("A"),
      adds["eos"] == true ? texts["eos"].map { .special($0) } : nil,
    ]
    guard single != expected.compactMap(\.self) else { return }
    let names = single.map { piece in
      switch piece {
      case .special(let text): "'\(text.printable)'"
      case .sequence(let name): "text \(name.printable)"
      }
    }
    notes.append(
      Step3Tokenizer.Note(
        "the template of texts in tokenizer.json (\(names.joined(separator: ", ")))",
        "a GGUF can only request one token before (bos) and one after (eos)"))
  }

  /// Whether there is a separator between two texts: `[bos] A [sep] [eos] B [eos]`.
  private mutating func apply(pair: [Piece], single: [Piece]) {
    var middle = pair[...]
    let isTemplate = single.count > 1
    if isTemplate, case .special? = single.first, middle.first == single.first { middle = middle.dropFirst() }
    var hasEnd = false
    if isTemplate, case .special? = single.last {
      hasEnd = true
      if middle.last == single.last { middle = middle.dropLast() }
    }
    guard middle.first == .sequence("A"), middle.last == .sequence("B") else { return }
    middle = middle.dropFirst().dropLast()
    guard let first = middle.first else { return }
    let separators = [texts["sep"], texts["eos"]]
    func isSeparator(_ piece: Piece) -> Bool {
      guard case .special(let text) = piece else { return false }
      return separators.contains(text)
    }
    var adds = isSeparator(first) && !hasEnd
    if middle.count == 2, let second = middle.last { adds = adds || isSeparator(second) }
    self.adds["sep"] = adds
    if adds, texts["sep"] == nil { texts["sep"] = texts["eos"] }
  }
}
