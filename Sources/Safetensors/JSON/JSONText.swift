/// Writes JSON strings the way the format's usual writers do, so that the same content gives the same bytes.
enum JSONText {
  /// Which characters are escaped.
  enum Style {
    /// Only what JSON demands, as serde_json (the safetensors writer) does.
    case minimal
    /// Everything outside printable ASCII too, as Python's `json.dumps` (the index writer) does.
    case ascii
  }

  /// Appends `text` in quotes.
  static func append(_ text: String, to output: inout [UInt8], style: Style) {
    output.append(UInt8(ascii: "\""))
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": output += Array("\\\"".utf8)
      case "\\": output += Array("\\\\".utf8)
      case "\u{08}": output += Array("\\b".utf8)
      case "\u{0C}": output += Array("\\f".utf8)
      case "\n": output += Array("\\n".utf8)
      case "\r": output += Array("\\r".utf8)
      case "\t": output += Array("\\t".utf8)
      case "\u{00}"..<"\u{20}": appendEscape(UInt16(scalar.value), to: &output)
      case "\u{20}"..<"\u{7F}": output.append(UInt8(truncatingIfNeeded: scalar.value))
      default:
        switch style {
        case .minimal: output += Array(String(Character(scalar)).utf8)
        case .ascii: for unit in String(Character(scalar)).utf16 { appendEscape(unit, to: &output) }
        }
      }
    }
    output.append(UInt8(ascii: "\""))
  }

  private static func appendEscape(_ unit: UInt16, to output: inout [UInt8]) {
    let digits = String(unit, radix: 16)
    output += Array("\\u".utf8) + [UInt8](repeating: UInt8(ascii: "0"), count: 4 - digits.utf8.count)
    output += Array(digits.utf8)
  }
}

extension String {
  /// Whether the UTF-8 bytes of this string sort before those of `other`: the order of Rust and, for well-formed text,
  /// of Python. Swift's own `<` sorts canonically equivalent spellings as equal.
  package func precedesBytewise(_ other: String) -> Bool {
    utf8.lexicographicallyPrecedes(other.utf8)
  }
}
