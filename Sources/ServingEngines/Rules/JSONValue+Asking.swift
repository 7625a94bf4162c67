internal import Step3Model

extension JSONValue {
  /// The value of a key, `nil` where it is absent or null, or this is no object.
  subscript(key: String) -> JSONValue? {
    guard case .object(let members) = self, let value = members[key], value != .null else { return nil }
    return value
  }

  /// A string.
  var text: String? { if case .string(let text) = self { text } else { nil } }

  /// A whole number.
  var whole: Int? { if case .integer(let number) = self { number } else { nil } }

  /// Python's idea of truth, as far as configurations use it.
  var isTrue: Bool { if case .bool(let flag) = self { flag } else { false } }

  /// A list.
  var items: [JSONValue]? { if case .array(let items) = self { items } else { nil } }

  /// The strings of a list.
  var strings: [String]? { items?.compactMap(\.text) }

  /// Two positive whole numbers.
  var sides: (rows: Int, columns: Int)? {
    guard let items, items.count == 2, let rows = items[0].whole, let columns = items[1].whole,
      (1...1_048_576).contains(rows), (1...1_048_576).contains(columns)
    else { return nil }
    return (rows, columns)
  }
}
