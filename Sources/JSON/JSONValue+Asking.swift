internal import TensorFormats

extension JSONValue {
  /// The value of a key, `nil` where it is absent or null, or this is not an object.
  public subscript(key: String) -> JSONValue? {
    guard let value = members?[key], value != .null else { return nil }
    return value
  }

  /// The members of an object; `nil` for anything else.
  public var members: JSONMembers? { if case .object(let members) = self { members } else { nil } }

  /// The elements of an array; `nil` for anything else.
  public var items: [JSONValue]? { if case .array(let items) = self { items } else { nil } }

  /// The strings among the elements of an array; `nil` for anything else.
  public var strings: [String]? { items?.compactMap(\.text) }

  /// A string; `nil` for anything else.
  public var text: String? { if case .string(let text) = self { text } else { nil } }

  /// `true` or `false`; `nil` for anything else.
  public var flag: Bool? { if case .bool(let flag) = self { flag } else { nil } }

  /// A whole number of 64 bits, without fraction and exponent; `nil` for anything else.
  public var whole: Int? {
    switch self {
    case .integer(let value): value
    case .number(let number): number.integer
    default: nil
    }
  }

  /// A number; `nil` for anything else.
  public var double: Double? {
    switch self {
    case .integer(let value): Double(value)
    case .number(let number): number.double
    default: nil
    }
  }

  /// What a message calls this value.
  public var kind: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .number(let value): value.text.printable
    case .string(let value): "the string '\(value.printable)'"
    case .array: "a list"
    case .object: "an object"
    }
  }
}

// MARK: - For display

extension JSONValue {
  /// The value on one line for display: strings without quotes, long arrays shortened.
  public var summary: String {
    switch self {
    case .null: return "null"
    case .bool(let value): return String(value)
    case .integer(let value): return String(value)
    case .number(let value): return value.text
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
    guard let members, !members.isEmpty else { return [(prefix, self)] }
    return members.flatMap { $0.value.flattened(under: prefix.isEmpty ? $0.key : "\(prefix).\($0.key)") }
  }
}
