package import TensorFormats

/// A strict single-pass reader of JSON text (RFC 8259), or, with ``JSONDialect/python``, of documents beside weights.
///
/// It builds no tree: the caller asks for the value it expects next and gets that value or an error with its byte
/// offset in the file. Only the strings that the caller asks for are allocated, and nesting is limited, so that no
/// text can exhaust the stack.
///
/// Stricter than most readers where leniency would hide damage: UTF-8 is checked (overlong forms and surrogates
/// included), `\u` escapes must pair up, control characters must be escaped, no byte order mark, no trailing comma,
/// no leading zeros.
package struct JSONScanner: ~Escapable {
  /// The nesting that serde_json, and so the reference reader, allows (tried: 127 levels pass, 128 do not).
  package static let maximumDepth = 127

  /// How far one object or array has been read.
  package struct Members {
    fileprivate var isFirst = true
  }

  /// The text.
  let bytes: Span<UInt8>
  /// The next byte to look at.
  var position = 0
  /// Where the text starts in its file.
  private let fileOffset: Int
  /// What is taken for JSON.
  let dialect: JSONDialect
  private var depth = 0
  /// Where the next token will be looked for, in bytes from the start of the file.
  package var offset: Int { fileOffset + position }
  /// Where the last token that was read began, in bytes from the start of the file.
  package private(set) var tokenOffset: Int

  /// Starts at the first byte of `text`, which lies `fileOffset` bytes into its file.
  @_lifetime(copy text)
  package init(_ text: RawSpan, fileOffset: Int = 0, dialect: JSONDialect = .strict) {
    bytes = Span<UInt8>(_bytes: text)
    self.fileOffset = fileOffset
    self.dialect = dialect
    tokenOffset = fileOffset
    if dialect == .python, bytes.count >= 3, bytes[0] == 0xEF, bytes[1] == 0xBB, bytes[2] == 0xBF {
      position = 3
    }
  }
}

// MARK: - Objects and arrays

extension JSONScanner {
  /// Reads `{`. Go on with ``nextKey(_:)`` until it returns `nil`.
  package mutating func openObject(_ what: String) throws(CheckpointError) -> Members {
    try open(UInt8(ascii: "{"), "\(what): an object")
    return Members()
  }

  /// Reads the next key of an object and its colon; `nil` after the closing brace.
  package mutating func nextKey(_ members: inout Members) throws(CheckpointError) -> String? {
    guard try advance(&members, closing: UInt8(ascii: "}"), "an object") else { return nil }
    let key = try scanString("a key")
    let keyOffset = tokenOffset
    try expect(UInt8(ascii: ":"), "':' after a key")
    tokenOffset = keyOffset
    return key
  }

  /// Reads `[`. Go on with ``nextElement(_:)`` until it returns `false`.
  package mutating func openArray(_ what: String) throws(CheckpointError) -> Members {
    try open(UInt8(ascii: "["), "\(what): an array")
    return Members()
  }

  /// Whether an array has another element, which is then next to be read.
  package mutating func nextElement(_ members: inout Members) throws(CheckpointError) -> Bool {
    try advance(&members, closing: UInt8(ascii: "]"), "an array")
  }

  private mutating func open(_ bracket: UInt8, _ wanted: @autoclosure () -> String) throws(CheckpointError) {
    try expect(bracket, wanted())
    guard depth < Self.maximumDepth else {
      throw error("values are nested more than \(Self.maximumDepth) deep", at: position - 1)
    }
    depth += 1
  }

  /// Steps over the comma before the next member. `false` once the closing bracket has been read.
  mutating func advance(
    _ members: inout Members, closing: UInt8, _ container: String
  ) throws(CheckpointError) -> Bool {
    skipWhitespace()
    guard position < bytes.count else {
      throw error("the JSON text ends inside \(container)", at: position)
    }
    if bytes[position] == closing {
      position += 1
      depth -= 1
      return false
    }
    if members.isFirst {
      members.isFirst = false
      return true
    }
    let end = Character(UnicodeScalar(closing))
    try expect(UInt8(ascii: ","), "',' or '\(end)'")
    skipWhitespace()
    if position < bytes.count, bytes[position] == closing {
      throw error("a comma is followed by '\(end)'", at: position)
    }
    return true
  }
}

// MARK: - Other values

extension JSONScanner {
  /// Reads `null` if it is next.
  package mutating func scanNull() throws(CheckpointError) -> Bool {
    skipWhitespace()
    guard position < bytes.count, bytes[position] == UInt8(ascii: "n") else { return false }
    try skipLiteral("null")
    return true
  }

  /// Steps over a value of any kind, checking its syntax.
  package mutating func skipValue() throws(CheckpointError) {
    skipWhitespace()
    guard position < bytes.count else { throw unexpected("a value") }
    switch bytes[position] {
    case UInt8(ascii: "{"):
      var members = try openObject("a value")
      while try advance(&members, closing: UInt8(ascii: "}"), "an object") {
        try skipString("a key")
        try expect(UInt8(ascii: ":"), "':' after a key")
        try skipValue()
      }
    case UInt8(ascii: "["):
      var members = try openArray("a value")
      while try nextElement(&members) { try skipValue() }
    case UInt8(ascii: "\""): try skipString("a value")
    case UInt8(ascii: "t"): try skipLiteral("true")
    case UInt8(ascii: "f"): try skipLiteral("false")
    case UInt8(ascii: "n"): try skipLiteral("null")
    default: _ = try scanNumber("a value")
    }
  }

  /// Checks that nothing but white space is left.
  package mutating func finish() throws(CheckpointError) {
    skipWhitespace()
    guard position == bytes.count else {
      throw error("\(describe(bytes[position])) follows the end of the JSON value", at: position)
    }
  }

  mutating func skipLiteral(_ literal: StaticString) throws(CheckpointError) {
    let start = position
    begin(at: start)
    for index in 0..<literal.utf8CodeUnitCount {
      guard position < bytes.count, unsafe bytes[position] == literal.utf8Start[index] else {
        throw error("'\(literal)' is misspelt", at: start)
      }
      position += 1
    }
  }
}

// MARK: - Errors and single bytes

extension JSONScanner {
  /// An error at `position` in the text.
  func error(_ message: String, at position: Int) -> CheckpointError {
    CheckpointError(.malformed, message, offset: fileOffset + position)
  }

  /// An error about the last token.
  package func errorAtToken(_ message: String, code: CheckpointError.Code = .malformed) -> CheckpointError {
    CheckpointError(code, message, offset: tokenOffset)
  }

  /// The error for something else than `wanted` being next.
  func unexpected(_ wanted: String) -> CheckpointError {
    guard position < bytes.count else {
      return error("the JSON text ends where \(wanted) was expected", at: position)
    }
    return error("expected \(wanted), found \(describe(bytes[position]))", at: position)
  }

  /// Notes where a token begins.
  mutating func begin(at position: Int) { tokenOffset = fileOffset + position }

  mutating func skipWhitespace() {
    while position < bytes.count {
      switch bytes[position] {
      case 0x20, 0x0A, 0x0D, 0x09: position += 1
      default: return
      }
    }
  }

  mutating func expect(_ byte: UInt8, _ wanted: @autoclosure () -> String) throws(CheckpointError) {
    skipWhitespace()
    guard position < bytes.count, bytes[position] == byte else { throw unexpected(wanted()) }
    begin(at: position)
    position += 1
  }

  /// A byte, described for a message.
  func describe(_ byte: UInt8) -> String {
    switch byte {
    case UInt8(ascii: "{"): "an object"
    case UInt8(ascii: "["): "an array"
    case UInt8(ascii: "\""): "a string"
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): "a number"
    case 0x21..<0x7F: "'\(UnicodeScalar(byte))'"
    default: "byte 0x\(byte < 16 ? "0" : "")\(String(byte, radix: 16))"
    }
  }
}
