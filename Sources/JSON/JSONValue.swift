public import TensorFormats

/// Any JSON value: members of objects in their document's order, numbers in its spelling.
public enum JSONValue: Hashable, Sendable {
  case null
  case bool(Bool)
  /// A whole number that is spelled as Swift spells it.
  case integer(Int)
  /// Any other number.
  case number(JSONNumber)
  case string(String)
  case array([JSONValue])
  case object(JSONMembers)

  /// A number by its spelling.
  ///
  /// - Precondition: As for ``JSONNumber/init(_:)-(String)``.
  public init(number text: String) {
    if let integer = Int(text), text != "-0" {
      self = .integer(integer)
    } else {
      self = .number(JSONNumber(text))
    }
  }

  /// The value with the members of all objects in the order of their keys' bytes.
  public var sorted: JSONValue {
    switch self {
    case .array(let values): .array(values.map(\.sorted))
    case .object(let members): .object(members.sorted)
    default: self
    }
  }
}

// MARK: - Reading

/// Which texts are accepted as JSON.
public enum JSONDialect: Hashable, Sendable {
  /// JSON (RFC 8259) and nothing else.
  case strict
  /// JSON as Python's `json` writes it and editors save it: `NaN`, `Infinity` and `-Infinity` are numbers, and a
  /// leading byte order mark is allowed.
  case python
}

extension JSONValue {
  /// Parses a whole document.
  ///
  /// - Throws: `.malformed` with the byte offset for text that is not JSON or is nested more than 127 deep; also for a
  ///   key that an object has twice and a number beyond what a `Double` holds, because readers disagree about them.
  /// - Complexity: O(n) in the bytes.
  public init(parsing text: [UInt8], dialect: JSONDialect = .strict) throws(CheckpointError) {
    var scanner = unsafe JSONScanner(text.span.bytes, dialect: dialect)
    try self.init(&scanner)
    try scanner.finish()
  }

  /// Reads the next value. The scanner limits how deep this recurses.
  package init(_ scanner: inout JSONScanner) throws(CheckpointError) {
    switch try scanner.nextKind() {
    case .null:
      _ = try scanner.scanNull()
      self = .null
    case .bool: self = .bool(try scanner.scanBool("a value"))
    case .string: self = .string(try scanner.scanString("a value"))
    case .number:
      self.init(number: try scanner.scanNumberText("a value"))
      // The spelling of a constant ends with a letter, that of a number with a digit.
      if case .number(let number) = self, !number.isFinite, number.text.utf8.last.map({ $0 < 0x3A }) == true {
        throw scanner.errorAtToken("the number \(number.text.printable) is too large")
      }
    case .array:
      var items: [JSONValue] = []
      var elements = try scanner.openArray("a value")
      while try scanner.nextElement(&elements) { items.append(try JSONValue(&scanner)) }
      self = .array(items)
    case .object:
      var members = JSONMembers()
      try members.read(&scanner, "a value")
      self = .object(members)
    }
  }
}

// MARK: - Encoding

extension JSONValue: Encodable {
  /// Encodes the value; members keep their order if the encoder allows it.
  public func encode(to encoder: any Encoder) throws {
    switch self {
    case .null:
      var container = encoder.singleValueContainer()
      try container.encodeNil()
    case .bool(let value): try value.encode(to: encoder)
    case .integer(let value): try value.encode(to: encoder)
    case .number(let value):
      var container = encoder.singleValueContainer()
      try container.encode(value)
    case .string(let value): try value.encode(to: encoder)
    case .array(let values):
      var container = encoder.unkeyedContainer()
      for value in values { try container.encode(value) }
    case .object(let members):
      var container = encoder.container(keyedBy: JSONKey.self)
      for member in members { try container.encode(member.value, forKey: JSONKey(member.key)) }
    }
  }
}

/// A key that is known only at run time.
package struct JSONKey: CodingKey {
  package let stringValue: String
  package var intValue: Int? { nil }
  package init(_ key: String) { stringValue = key }
  package init?(stringValue: String) { self.init(stringValue) }
  package init?(intValue: Int) { nil }
}
