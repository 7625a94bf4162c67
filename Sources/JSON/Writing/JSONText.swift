package import TensorFormats

/// JSON text: strings in quotes, and whole values for standard output and for files.
public enum JSONText {
  /// Which characters of a string are escaped, beside the quote, the backslash and what is below U+0020.
  ///
  /// JSON demands no more, and what belongs into a file is written as its usual writer writes it, so that the same
  /// content gives the same bytes: U+007F stands in a safetensors header as it is, and is escaped in an index. What may
  /// be shown by a terminal escapes it always, with everything else that a terminal obeys and does not show: C1
  /// controls, and the marks that turn the direction of text. All of it is the same text to a reader of JSON.
  package enum Style {
    /// Nothing more, as serde_json (the safetensors writer) does.
    case minimal
    /// Everything outside printable ASCII, as Python's `json.dumps` (the index writer) does.
    case ascii
    /// What a terminal would not show.
    case terminal
  }

  /// Appends `text` in quotes.
  package static func append(_ text: String, to output: inout [UInt8], style: Style) {
    output.append(UInt8(ascii: "\""))
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": output.append(contentsOf: [0x5C, 0x22])
      case "\\": output.append(contentsOf: [0x5C, 0x5C])
      case "\u{08}": output.append(contentsOf: [0x5C, UInt8(ascii: "b")])
      case "\u{0C}": output.append(contentsOf: [0x5C, UInt8(ascii: "f")])
      case "\n": output.append(contentsOf: [0x5C, UInt8(ascii: "n")])
      case "\r": output.append(contentsOf: [0x5C, UInt8(ascii: "r")])
      case "\t": output.append(contentsOf: [0x5C, UInt8(ascii: "t")])
      case "\u{00}"..<"\u{20}": appendEscape(UInt16(scalar.value), to: &output)
      case "\u{20}"..<"\u{7F}": output.append(UInt8(truncatingIfNeeded: scalar.value))
      case _ where isEscaped(scalar, style): for unit in scalar.utf16 { appendEscape(unit, to: &output) }
      default: output.append(contentsOf: scalar.utf8)
      }
    }
    output.append(UInt8(ascii: "\""))
  }

  /// `text` in quotes.
  package static func quoted(_ text: String, style: Style = .minimal) -> String {
    var bytes: [UInt8] = []
    append(text, to: &bytes, style: style)
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Whether a character from U+007F on is escaped.
  private static func isEscaped(_ scalar: Unicode.Scalar, _ style: Style) -> Bool {
    switch style {
    case .minimal: false
    case .ascii: true
    case .terminal:
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator: true
      default: false
      }
    }
  }

  private static func appendEscape(_ unit: UInt16, to output: inout [UInt8]) {
    output.append(contentsOf: [0x5C, UInt8(ascii: "u")])
    for shift in [12, 8, 4, 0] as [UInt16] {
      let digit = UInt8(truncatingIfNeeded: unit >> shift & 0xF)
      output.append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
    }
  }
}

// MARK: - Whole values

extension JSONText {
  /// The value as a document for people and programs, ended by a newline.
  ///
  /// Keys keep the order in which the type declares them, and `nil` is written as `null`, so that every object of a kind
  /// has the same keys. A number of the type that JSON has no spelling for (NaN, infinity) is `null` too; one of a
  /// ``JSONValue`` is a string, so that it is not lost. The elements of an array that are objects stand on a line of
  /// their own each, so that `grep` is of use.
  ///
  /// - Parameters:
  ///   - value: What to write.
  ///   - schema: What the document's first member `schema` says; of an array, that of each element. `nil` for none.
  /// - Complexity: O(n) in the text.
  public static func document(_ value: some Encodable, schema: String? = nil) -> [UInt8] {
    let output = JSONOutput(.report, schema: schema)
    output.append(value)
    output.append(raw: "\n")
    return output.bytes
  }

  /// The same on a single line, without a newline.
  public static func compact(_ value: some Encodable, schema: String? = nil) -> String {
    let output = JSONOutput(.compact, schema: schema)
    output.append(value)
    return String(decoding: output.bytes, as: UTF8.self)
  }

  /// The value as a file beside weights: every member and element on a line of its own, members sorted by their keys, no
  /// newline at the end. The layout is that of Foundation's encoder, with which such files have been written.
  ///
  /// - Throws: `.unsupported` for a number that JSON has no spelling for.
  /// - Complexity: O(n log n) in the members.
  package static func file(_ value: JSONValue) throws(CheckpointError) -> [UInt8] {
    let output = JSONOutput(.file)
    output.append(value.sorted)
    guard !output.hasUnwritableNumber else {
      throw CheckpointError(.unsupported, "a number of the document cannot be written as JSON")
    }
    return output.bytes
  }
}
