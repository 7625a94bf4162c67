package import TensorFormats

/// JSON text: strings in quotes, and whole values for standard output and for files.
public enum JSONText {
  /// Which characters of a string are escaped, beside the quote, the backslash and what is below U+0020.
  ///
  /// JSON requires no more, and files are written as their usual writer writes them, so that the same content gives the
  /// same bytes: U+007F is literal in a safetensors header and escaped in an index. Text that may reach a terminal
  /// always escapes it, along with everything else that a terminal acts on instead of showing: C1 controls, and marks
  /// that change the direction of text. All of it is the same text to a JSON reader.
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
  /// The value as a document for people and programs, ending with a newline.
  ///
  /// Keys keep the order in which the type declares them, and `nil` is written as `null`, so that every object of a
  /// kind has the same keys. A number of the type that JSON has no spelling for (NaN, infinity) is `null` too; one of a
  /// ``JSONValue`` is a string, so that it is not lost. Array elements that are objects each get a line of their own,
  /// so that `grep` is useful.
  ///
  /// - Parameters:
  ///   - value: What to write.
  ///   - schema: The value of the document's first member `schema`; of an array, that of each element. `nil` for
  ///     none.
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

  /// The value as a file beside weights: every member and element on a line of its own, members sorted by their keys,
  /// no newline at the end. The layout is that of Foundation's encoder, which wrote such files before.
  ///
  /// - Throws: `.unsupported` for a number that JSON has no spelling for.
  /// - Complexity: O(n log n) in the members.
  package static func file(_ value: JSONValue) throws(CheckpointError) -> [UInt8] {
    let output = JSONOutput(.file)
    output.append(value.sorted)
    guard !output.hasUnwritableNumber else {
      throw CheckpointError(.unsupported, "a number in the document cannot be written as JSON")
    }
    return output.bytes
  }
}
