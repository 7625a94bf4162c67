internal import Safetensors
public import TensorFormats

/// Any JSON value, members of objects in an order that is kept.
public indirect enum JSONValue: Hashable, Sendable {
  /// A member of an object.
  public struct Member: Hashable, Sendable {
    public let key: String
    public let value: JSONValue
  }

  case null
  case bool(Bool)
  case integer(Int)
  case unsigned(UInt64)
  case float(Float)
  case number(Double)
  /// A number of a JSON document, in that document's spelling.
  case spelled(JSONNumber)
  case string(String)
  case array([JSONValue])
  case object([Member])

  /// An object from its members.
  static func object(_ members: [(String, JSONValue)]) -> JSONValue {
    .object(members.map { Member(key: $0.0, value: $0.1) })
  }
}

/// A key that is known only at run time.
struct JSONKey: CodingKey {
  let stringValue: String
  var intValue: Int? { nil }
  init(_ key: String) { stringValue = key }
  init?(stringValue: String) { self.init(stringValue) }
  init?(intValue: Int) { nil }
}

extension JSONValue: Encodable {
  /// Encodes the value; members keep their order as far as the encoder lets them.
  public func encode(to encoder: any Encoder) throws {
    switch self {
    case .null:
      var container = encoder.singleValueContainer()
      try container.encodeNil()
    case .bool(let value): try value.encode(to: encoder)
    case .integer(let value): try value.encode(to: encoder)
    case .unsigned(let value): try value.encode(to: encoder)
    case .float(let value): try value.encode(to: encoder)
    case .number(let value): try value.encode(to: encoder)
    case .spelled(let value):
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

extension JSONValue {
  /// Reads a document as Python's `json` writes it; members keep their order and numbers their spelling. `NaN` and
  /// `Infinity`, which JSON has no numbers for, become strings.
  ///
  /// - Throws: `.malformed` with the byte offset.
  init(parsing text: [UInt8]) throws(CheckpointError) {
    let bytes = unsafe text.span.bytes
    var scanner = JSONScanner(bytes, dialect: .python)
    try self.init(from: &scanner)
    try scanner.finish()
  }

  // The scanner limits the depth.
  private init(from scanner: inout JSONScanner) throws(CheckpointError) {
    switch try scanner.nextKind() {
    case .null:
      _ = try scanner.scanNull()
      self = .null
    case .bool: self = .bool(try scanner.scanBool("a value"))
    case .number:
      let text = try scanner.scanNumberText("a value")
      self = text.hasSuffix("N") || text.hasSuffix("y") ? .string(text) : .spelled(JSONNumber(text))
    case .string: self = .string(try scanner.scanString("a value"))
    case .array:
      var elements = try scanner.openArray("a value")
      var values: [JSONValue] = []
      while try scanner.nextElement(&elements) { values.append(try JSONValue(from: &scanner)) }
      self = .array(values)
    case .object:
      var list = try scanner.openObject("a value")
      var members: [Member] = []
      while let key = try scanner.nextKey(&list) {
        members.append(Member(key: key, value: try JSONValue(from: &scanner)))
      }
      self = .object(members)
    }
  }
}

extension JSONValue {
  /// The value on one line, as people read it: strings without quotes, long arrays cut.
  public var summary: String {
    switch self {
    case .null: return "null"
    case .bool(let value): return String(value)
    case .integer(let value): return String(value)
    case .unsigned(let value): return String(value)
    case .float(let value): return value.description
    case .number(let value): return value.description
    case .spelled(let value): return value.text
    case .string(let value):
      // A chat template is thousands of characters of code.
      return value.unicodeScalars.count <= 200
        ? value : String(value.unicodeScalars.prefix(200)) + "… (\(value.unicodeScalars.count) characters)"
    case .array(let values):
      let shown = values.prefix(6).map(\.summary).joined(separator: ", ")
      return values.count <= 6 ? "[\(shown)]" : "[\(shown), …] (\(values.count) values)"
    case .object(let members):
      return "{" + members.map { "\($0.key): \($0.value.summary)" }.joined(separator: ", ") + "}"
    }
  }

  /// The scalars and arrays in the value with their paths (`text_config.hidden_size`), in order.
  public func flattened(under prefix: String = "") -> [(path: String, value: JSONValue)] {
    guard case .object(let members) = self, !members.isEmpty else { return [(prefix, self)] }
    return members.flatMap { $0.value.flattened(under: prefix.isEmpty ? $0.key : "\(prefix).\($0.key)") }
  }
}
