extension String {
  /// This text with every character that a terminal might act on escaped, never shortened.
  public var escapingControlCharacters: String { escapingControlCharacters(except: nil) }

  /// The same, except for one allowed character.
  package func escapingControlCharacters(except wanted: Unicode.Scalar?) -> String {
    guard unicodeScalars.contains(where: \.isUnprintable) else { return self }
    var result = ""
    for scalar in unicodeScalars {
      if scalar.isUnprintable, scalar != wanted {
        result += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }

  /// The columns that the text takes on a terminal.
  package var terminalWidth: Int {
    if utf8.allSatisfy({ $0 < 0x80 }) { return utf8.count }
    return unicodeScalars.reduce(0) { $0 + $1.terminalWidth }
  }

  /// The text wrapped between words to at most `width` columns, except for longer words; lines after the first are
  /// indented by `indent` spaces. `nil` leaves it unchanged.
  package func wrapped(to width: Int?, indent: Int = 2) -> String {
    guard let width, terminalWidth > width else { return self }
    let margin = prefix { $0 == " " }
    let indent = margin.count + indent
    guard width > 2 * indent else { return self }
    var lines: [String] = []
    var line = ""
    for word in self[margin.endIndex...].split(separator: " ", omittingEmptySubsequences: false) {
      if line.isEmpty {
        line = String(margin) + word
      } else if line.terminalWidth + 1 + String(word).terminalWidth <= width {
        line += " \(word)"
      } else {
        lines.append(line)
        line = String(repeating: " ", count: indent) + word
      }
    }
    return (lines + [line]).joined(separator: "\n")
  }

  /// The text truncated in the middle to at most `width` columns, with `…` for the missing part.
  ///
  /// Tensor names differ at both ends: the layer at the front, the projection at the end.
  package func truncatedInTheMiddle(to width: Int) -> String {
    guard terminalWidth > width else { return self }
    guard width > 1 else { return width == 1 ? "…" : "" }
    let scalars = Array(unicodeScalars)
    let tailWidth = width / 2
    var head = String.UnicodeScalarView()
    var used = 0
    for scalar in scalars {
      guard used + scalar.terminalWidth <= width - 1 - tailWidth else { break }
      used += scalar.terminalWidth
      head.append(scalar)
    }
    var tail: [Unicode.Scalar] = []
    used = 0
    for scalar in scalars.reversed() {
      guard used + scalar.terminalWidth <= tailWidth else { break }
      used += scalar.terminalWidth
      tail.append(scalar)
    }
    var result = String(head) + "…"
    result.unicodeScalars.append(contentsOf: tail.reversed())
    return result
  }
}

extension Unicode.Scalar {
  /// Whether a terminal would do anything with it other than show it.
  fileprivate var isUnprintable: Bool {
    if (0x20..<0x7F).contains(value) { return false }
    switch properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator:
      return true
    default: return false
    }
  }

  /// 0 for combining marks, 2 for the wide characters of East Asia and for emoji, else 1.
  ///
  /// Source: the wide and full-width ranges of Unicode's EastAsianWidth.txt, merged across gaps of unassigned
  /// code points.
  fileprivate var terminalWidth: Int {
    switch value {
    case ..<0x300: return 1
    case 0x1100...0x115F, 0x2E80...0x303E, 0x3041...0x33FF, 0x3400...0x4DBF, 0x4E00...0x9FFF, 0xA000...0xA4CF,
      0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60, 0xFFE0...0xFFE6, 0x1F300...0x1F64F,
      0x1F680...0x1F6FF, 0x1F900...0x1F9FF, 0x20000...0x3FFFD:
      return 2
    default:
      switch properties.generalCategory {
      case .nonspacingMark, .enclosingMark, .format: return 0
      default: return 1
      }
    }
  }
}
