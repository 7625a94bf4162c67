internal import TensorFormats

// MARK: - Characters, classes and escapes

extension PythonTranslation {
  /// The meaning of `\d`, `\s` and `\w` in a `str` pattern, as members of a class.
  private static let categories: [Unicode.Scalar: String] = [
    "d": #"\p{Nd}"#, "w": #"\p{L}\p{N}_"#,
    "s":
      "\\x09-\\x0d\\x1c-\\x20\\x85\\xa0\u{1680}\u{2000}-\u{200A}\u{2028}\u{2029}\u{202F}\u{205F}\u{3000}",
  ]
  private static let word = #"[\p{L}\p{N}_]"#

  /// The members of `\d` or `\D`, and whether they are excluded.
  private static func category(_ letter: Unicode.Scalar) -> (members: String, isInverted: Bool)? {
    if let members = categories[letter] { return (members, false) }
    guard let lower = Unicode.Scalar(letter.value | 0x20), let members = categories[lower] else { return nil }
    return (members, true)
  }

  /// A literal character.
  func literal(_ scalar: Unicode.Scalar) throws(CheckpointError) -> Part {
    guard ignoresCase else { return Part(text: Self.written(scalar), width: 1...1) }
    return Part(text: "[\(try members(scalar, scalar))]", width: 1...1)
  }

  private static func written(_ scalar: Unicode.Scalar) -> String {
    guard scalar.isASCII, !isAlphanumeric(scalar) else { return String(Character(scalar)) }
    return "\\x\(scalar.value < 16 ? "0" : "")\(String(scalar.value, radix: 16))"
  }

  /// A range as members of a class, with the other case of its letters where case is ignored.
  private func members(
    _ low: Unicode.Scalar, _ high: Unicode.Scalar
  ) throws(CheckpointError) -> String {
    var text = Self.written(low) + (low == high ? "" : "-" + Self.written(high))
    guard ignoresCase else { return text }
    guard high.isASCII else { throw unsupported("case-insensitive matching beyond ASCII") }
    for value in low.value...high.value {
      guard let scalar = Unicode.Scalar(value ^ 0x20),
        ("A"..."Z").contains(scalar) || ("a"..."z").contains(scalar)
      else { continue }
      text += Self.written(scalar)
      switch value | 0x20 {
      case 0x69: text += "\u{130}\u{131}"
      case 0x6B: text += "\u{212A}"
      case 0x73: text += "\u{17F}"
      default: break
      }
    }
    return text
  }

  /// Reads a class after its `[`.
  mutating func characterClass() throws(CheckpointError) -> Part {
    let isNegated = take("^")
    var plain = ""
    var inverted: Set<String> = []
    var isFirst = true
    while true {
      guard let next = peek else { throw malformed("unterminated character set") }
      position += 1
      if next == "]", !isFirst { break }
      isFirst = false
      if next == "\\", let letter = peek, let (members, isInverted) = Self.category(letter) {
        position += 1
        if isInverted { inverted.insert(members) } else { plain += members }
        if peek == "-", position + 1 < scalars.count, scalars[position + 1] != "]" {
          throw malformed("bad character range")
        }
        continue
      }
      let low = next == "\\" ? try classEscape() : next
      var high = low
      if peek == "-" {
        guard position + 1 < scalars.count else { throw malformed("unterminated character set") }
        if scalars[position + 1] != "]" {
          position += 2
          high = scalars[position - 1]
          if high == "\\" {
            guard peek.flatMap(Self.category) == nil else { throw malformed("bad character range") }
            high = try classEscape()
          }
          guard low <= high else { throw malformed("bad character range") }
        }
      }
      plain += try members(low, high)
    }
    guard !inverted.isEmpty else {
      return Part(text: "[\(isNegated ? "^" : "")\(plain)]", width: 1...1)
    }
    let sets = (plain.isEmpty ? [] : ["[\(plain)]"]) + inverted.sorted().map { "[^\($0)]" }
    let either = sets.joined(separator: "|")
    return Part(text: isNegated ? "(?:(?!\(either))(?s:.))" : "(?:\(either))", width: 1...1)
  }

  /// Reads what follows a backslash outside a class.
  mutating func escape() throws(CheckpointError) -> Part {
    guard let next = peek else { throw malformed("bad escape (end of pattern)") }
    let word = Self.word
    switch next {
    case "A", "Z", "b", "B":
      position += 1
      let text =
        switch next {
        case "A": #"\A"#
        case "Z": #"\z"#
        case "b": "(?:(?<=\(word))(?!\(word))|(?<!\(word))(?=\(word)))"
        // Before 3.14, an empty text has none.
        default: "(?:(?<=\(word))(?=\(word))|(?<!\(word))(?!\(word))(?!\\A\\z))"
        }
      return Part(text: text, width: 0...0, kind: .anchor)
    case "1"..."9":
      position += 1
      let second = peek.flatMap { ("0"..."9").contains($0) ? $0 : nil }
      guard let second else { return try reference(to: Int(next.value) - 0x30) }
      position += 1
      let isOctal = ("1"..."7").contains(next) && ("0"..."7").contains(second)
      if isOctal, let third = peek, ("0"..."7").contains(third) {
        position -= 2
        return try literal(octal(atMost: 3))
      }
      return try reference(to: (Int(next.value) - 0x30) * 10 + Int(second.value) - 0x30)
    case "0": return try literal(octal(atMost: 3))
    default: break
    }
    if let (members, isInverted) = Self.category(next) {
      position += 1
      return Part(text: "[\(isInverted ? "^" : "")\(members)]", width: 1...1)
    }
    return try literal(escapedScalar())
  }

  private mutating func classEscape() throws(CheckpointError) -> Unicode.Scalar {
    if take("b") { return "\u{8}" }
    if let next = peek, ("0"..."7").contains(next) { return try octal(atMost: 3) }
    return try escapedScalar()
  }

  /// Reads an escape that means the same inside and outside a class.
  private mutating func escapedScalar() throws(CheckpointError) -> Unicode.Scalar {
    guard let next = peek else { throw malformed("bad escape (end of pattern)") }
    position += 1
    switch next {
    case "a": return "\u{7}"
    case "f": return "\u{C}"
    case "n": return "\n"
    case "r": return "\r"
    case "t": return "\t"
    case "v": return "\u{B}"
    case "x": return try hexadecimal(2)
    case "u": return try hexadecimal(4)
    case "U": return try hexadecimal(8)
    case "N": throw unsupported("a character name")
    default:
      guard !Self.isAlphanumeric(next) else { throw malformed("bad escape \\\(next)") }
      return next
    }
  }

  private mutating func hexadecimal(_ count: Int) throws(CheckpointError) -> Unicode.Scalar {
    let digits = scalars[position...].prefix(count)
    guard digits.count == count, digits.allSatisfy(\.properties.isASCIIHexDigit),
      let value = UInt32(String(String.UnicodeScalarView(digits)), radix: 16)
    else { throw malformed("incomplete escape") }
    position += count
    guard let scalar = Unicode.Scalar(value) else {
      throw value > 0x10FFFF ? malformed("bad escape") : unsupported("half of a surrogate pair")
    }
    return scalar
  }

  private mutating func octal(atMost count: Int) throws(CheckpointError) -> Unicode.Scalar {
    var value: UInt32 = 0
    for _ in 0..<count {
      guard let next = peek, ("0"..."7").contains(next) else { break }
      value = value * 8 + next.value - 0x30
      position += 1
    }
    guard value <= 0o377, let scalar = Unicode.Scalar(value) else {
      throw malformed("octal escape value outside of range 0-0o377")
    }
    return scalar
  }

  // MARK: Shell patterns

  /// The translation of a shell pattern.
  ///
  /// Source of the rules: `fnmatch.translate` of CPython.
  static func shell(_ text: String) -> String {
    let scalars = Array(text.unicodeScalars)
    var result = #"\A"#
    var index = 0
    while index < scalars.count {
      let next = scalars[index]
      index += 1
      switch next {
      case "*":
        // Several in a row are equivalent to one.
        while index < scalars.count, scalars[index] == "*" { index += 1 }
        result += "(?s:.)*"
      case "?": result += "(?s:.)"
      case "[":
        var first = index
        if first < scalars.count, scalars[first] == "!" { first += 1 }
        // A bracket at the beginning is a member.
        guard let end = scalars.dropFirst(first + 1).firstIndex(of: "]") else {
          result += written(next)
          continue
        }
        result += shellClass(scalars[first..<end], isNegated: first > index)
        index = end + 1
      default: result += written(next)
      }
    }
    return result + #"\z"#
  }

  private static func shellClass(_ members: ArraySlice<Unicode.Scalar>, isNegated: Bool) -> String {
    var text = ""
    var rest = members
    while let low = rest.popFirst() {
      guard rest.count > 1, rest.first == "-" else {
        text += written(low)
        continue
      }
      let high = rest[rest.startIndex + 1]
      rest = rest.dropFirst(2)
      // A range whose end comes before its start is empty.
      if low <= high { text += "\(written(low))-\(written(high))" }
    }
    guard !text.isEmpty else { return isNegated ? "(?s:.)" : "(?!)" }
    return "[\(isNegated ? "^" : "")\(text)]"
  }
}
