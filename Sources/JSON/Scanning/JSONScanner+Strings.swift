package import TensorFormats

// MARK: - Strings

extension JSONScanner {
  /// Reads a string; `what` names it in messages.
  package mutating func scanString(_ what: String) throws(CheckpointError) -> String {
    let (content, hasEscapes) = try scanStringContent(what)
    let span = bytes.extracting(content)
    guard hasEscapes else {
      return unsafe span.withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
    }
    return Self.unescape(span)
  }

  /// Steps over a string, checking it.
  mutating func skipString(_ what: String) throws(CheckpointError) {
    _ = try scanStringContent(what)
  }

  /// Steps over a string and returns where its bytes lie between the quotes, checked in every respect.
  mutating func scanStringContent(
    _ what: String
  ) throws(CheckpointError) -> (content: Range<Int>, hasEscapes: Bool) {
    skipWhitespace()
    guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
      throw unexpected("\(what): a string")
    }
    begin(at: position)
    let start = position + 1
    var index = start
    var hasEscapes = false
    while index < bytes.count {
      let byte = bytes[index]
      switch byte {
      case UInt8(ascii: "\""):
        position = index + 1
        return (start..<index, hasEscapes)
      case UInt8(ascii: "\\"):
        hasEscapes = true
        index = try endOfEscape(at: index)
      case 0x20..<0x80: index += 1
      case 0x80...: index = try endOfMultibyteScalar(at: index)
      default:
        throw error("a string holds a control character (\(describe(byte))) that is not escaped", at: index)
      }
    }
    throw error("the JSON text ends inside a string", at: start - 1)
  }

  /// The position after a UTF-8 sequence of two to four bytes.
  ///
  /// Source: Unicode 16, table 3-7, "Well-Formed UTF-8 Byte Sequences".
  private func endOfMultibyteScalar(at start: Int) throws(CheckpointError) -> Int {
    let lead = bytes[start]
    let length: Int
    var second: ClosedRange<UInt8> = 0x80...0xBF
    switch lead {
    case 0xC2...0xDF: length = 2
    case 0xE0: (length, second) = (3, 0xA0...0xBF)
    case 0xED: (length, second) = (3, 0x80...0x9F)
    case 0xE1...0xEF: length = 3
    case 0xF0: (length, second) = (4, 0x90...0xBF)
    case 0xF1...0xF3: length = 4
    case 0xF4: (length, second) = (4, 0x80...0x8F)
    default: throw error("the text is not UTF-8: \(describe(lead)) starts no character", at: start)
    }
    guard start + length <= bytes.count, second.contains(bytes[start + 1]),
      length < 3 || (0x80...0xBF).contains(bytes[start + 2]),
      length < 4 || (0x80...0xBF).contains(bytes[start + 3])
    else {
      throw error("the text is not UTF-8: an invalid sequence starts with \(describe(lead))", at: start)
    }
    return start + length
  }

  /// The position after an escape sequence; after both of them for a surrogate pair.
  private func endOfEscape(at start: Int) throws(CheckpointError) -> Int {
    guard start + 1 < bytes.count else { throw error("the JSON text ends inside a string", at: start) }
    switch bytes[start + 1] {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
      UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
      return start + 2
    case UInt8(ascii: "u"): break
    default: throw error("an escape is unknown: \\ with \(describe(bytes[start + 1]))", at: start)
    }
    guard let unit = Self.hexadecimal(bytes, at: start + 2) else {
      throw error("\\u needs four hexadecimal digits", at: start)
    }
    switch unit {
    case 0xD800..<0xDC00:
      guard start + 8 <= bytes.count, bytes[start + 6] == UInt8(ascii: "\\"),
        bytes[start + 7] == UInt8(ascii: "u"), let low = Self.hexadecimal(bytes, at: start + 8),
        (0xDC00..<0xE000).contains(low)
      else { throw error("an escaped surrogate is unpaired", at: start) }
      return start + 12
    case 0xDC00..<0xE000: throw error("an escaped surrogate is unpaired", at: start)
    default: return start + 6
    }
  }

  /// Decodes the checked content of a string that has escapes.
  static func unescape(_ content: Span<UInt8>) -> String {
    var text: [UInt8] = []
    text.reserveCapacity(content.count)
    var index = 0
    while index < content.count {
      let byte = content[index]
      guard byte == UInt8(ascii: "\\") else {
        text.append(byte)
        index += 1
        continue
      }
      let kind = content[index + 1]
      index += 2
      switch kind {
      case UInt8(ascii: "b"): text.append(0x08)
      case UInt8(ascii: "f"): text.append(0x0C)
      case UInt8(ascii: "n"): text.append(0x0A)
      case UInt8(ascii: "r"): text.append(0x0D)
      case UInt8(ascii: "t"): text.append(0x09)
      case UInt8(ascii: "u"):
        var value = hexadecimal(content, at: index) ?? 0
        index += 4
        if (0xD800..<0xDC00).contains(value), let low = hexadecimal(content, at: index + 2) {
          value = 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00)
          index += 6
        }
        text += Array(String(Character(UnicodeScalar(value) ?? "\u{FFFD}")).utf8)
      default: text.append(kind)
      }
    }
    return String(decoding: text, as: UTF8.self)
  }

  /// Four hexadecimal digits; `nil` if there are not four.
  private static func hexadecimal(_ bytes: Span<UInt8>, at start: Int) -> UInt32? {
    guard start + 4 <= bytes.count else { return nil }
    var value: UInt32 = 0
    for index in start..<(start + 4) {
      let digit = bytes[index]
      switch digit {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): value = value << 4 | UInt32(digit - UInt8(ascii: "0"))
      case UInt8(ascii: "a")...UInt8(ascii: "f"): value = value << 4 | UInt32(digit - UInt8(ascii: "a") + 10)
      case UInt8(ascii: "A")...UInt8(ascii: "F"): value = value << 4 | UInt32(digit - UInt8(ascii: "A") + 10)
      default: return nil
      }
    }
    return value
  }
}
