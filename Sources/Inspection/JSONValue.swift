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

extension JSONValue: Decodable {
  /// Decodes any value. Members come sorted by key, because decoders do not tell their order.
  public init(from decoder: any Decoder) throws {
    if let container = try? decoder.container(keyedBy: JSONKey.self) {
      let keys = container.allKeys.sorted { $0.stringValue < $1.stringValue }
      self = .object(
        try keys.map { Member(key: $0.stringValue, value: try container.decode(JSONValue.self, forKey: $0)) })
      return
    }
    if var container = try? decoder.unkeyedContainer() {
      var values: [JSONValue] = []
      while !container.isAtEnd { values.append(try container.decode(JSONValue.self)) }
      self = .array(values)
      return
    }
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Int.self) {
      self = .integer(value)
    } else if let value = try? container.decode(UInt64.self) {
      self = .unsigned(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else {
      self = .string(try container.decode(String.self))
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
