internal import TensorFormats

// MARK: - Character classes and escapes

extension PatternParser {
  /// Reads a class after its `[`.
  mutating func characterClass() throws(CheckpointError) -> ScalarSet {
    let isInverted = take("^")
    var set = ScalarSet()
    var isFirst = true
    while true {
      guard let next = peek else { throw malformed("'[' without ']'") }
      if next == "]" {
        guard !isFirst else { throw unsupported("']' at the start of a class") }
        position += 1
        break
      }
      isFirst = false
      let item = try classItem(next)
      guard let union = set.union(item) else {
        throw unsupported("a class that adds to the opposite of a mixed set")
      }
      set = union
    }
    set = try folded(set)
    return isInverted ? set.inverted : set
  }

  /// One scalar, a range, or a set such as `\p{L}`.
  private mutating func classItem(_ next: Unicode.Scalar) throws(CheckpointError) -> ScalarSet {
    let item = try classMember(next)
    guard peek == "-", position + 1 < scalars.count, scalars[position + 1] != "]" else { return item }
    guard let low = single(item) else { throw unsupported("'-' after a set inside a class") }
    position += 1
    guard let end = peek else { throw malformed("'[' without ']'") }
    guard let high = single(try classMember(end)) else { throw malformed("a range that ends with a set") }
    guard low <= high else { throw malformed("a range whose end comes before its start") }
    return ScalarSet(ranges: [low...high])
  }

  private mutating func classMember(_ next: Unicode.Scalar) throws(CheckpointError) -> ScalarSet {
    position += 1
    switch next {
    case "[": throw unsupported("'[' inside a class")
    case "&" where peek == "&": throw unsupported("'&&' inside a class")
    case "\\": return try escape()
    default: return ScalarSet(ranges: [next.value...next.value])
    }
  }

  /// The one scalar of a set.
  private func single(_ set: ScalarSet) -> UInt32? {
    guard set.categories == 0, !set.isInverted, set.ranges.count == 1, set.ranges[0].count == 1 else {
      return nil
    }
    return set.ranges[0].lowerBound
  }

  /// Reads what follows a backslash.
  mutating func escape() throws(CheckpointError) -> ScalarSet {
    guard let next = peek else { throw malformed("a backslash at the end") }
    position += 1
    switch next {
    case "s": return .whiteSpace
    case "S": return ScalarSet.whiteSpace.inverted
    case "d": return ScalarSet(categories: 1 << UInt32(ScalarCategory.decimalNumber))
    case "D": return ScalarSet(categories: 1 << UInt32(ScalarCategory.decimalNumber)).inverted
    case "p": return try property(isInverted: false)
    case "P": return try property(isInverted: true)
    case "n": return scalar(0x0A)
    case "r": return scalar(0x0D)
    case "t": return scalar(0x09)
    case "v": return scalar(0x0B)
    case "f": return scalar(0x0C)
    case "a": return scalar(0x07)
    case "e": return scalar(0x1B)
    case "x": return scalar(try bracedHexadecimal())
    case "u": return scalar(try hexadecimal(4))
    case "a"..."z", "A"..."Z", "0"..."9": throw unsupported("'\\\(next)'")
    default: return scalar(next.value)
    }
  }

  private func scalar(_ value: UInt32) -> ScalarSet { ScalarSet(ranges: [value...value]) }

  /// `{L}`, `{^Lu}`: a general category or a group of them.
  private mutating func property(isInverted: Bool) throws(CheckpointError) -> ScalarSet {
    guard take("{"), let end = scalars[position...].firstIndex(of: "}") else {
      throw unsupported("'\\p' without braces")
    }
    var isInverted = isInverted
    if take("^") { isInverted.toggle() }
    let name = String(String.UnicodeScalarView(scalars[position..<end]))
    guard let mask = ScalarCategory.mask(named: name) else {
      throw unsupported("the property '\(name.printable)'")
    }
    position = end + 1
    let set = ScalarSet(categories: mask)
    return isInverted ? set.inverted : set
  }

  /// `\x{1F600}`, or two digits, which beyond ASCII are a byte of UTF-8 to Oniguruma.
  private mutating func bracedHexadecimal() throws(CheckpointError) -> UInt32 {
    guard take("{") else {
      let value = try hexadecimal(2)
      guard value < 0x80 else { throw unsupported("a single byte of UTF-8") }
      return value
    }
    guard let end = scalars[position...].prefix(9).firstIndex(of: "}") else {
      throw malformed("'\\x{' without '}'")
    }
    let value = try hexadecimal(end - position)
    position = end + 1
    return value
  }

  private mutating func hexadecimal(_ digits: Int) throws(CheckpointError) -> UInt32 {
    let text = String(String.UnicodeScalarView(scalars[position...].prefix(digits)))
    guard text.unicodeScalars.count == digits, text.allSatisfy(\.isHexDigit),
      let value = UInt32(text, radix: 16),
      Unicode.Scalar(value) != nil
    else { throw malformed("'\(text.printable)' is no scalar") }
    position += digits
    return value
  }
}
