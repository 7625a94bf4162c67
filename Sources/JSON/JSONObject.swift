package import TensorFormats

/// One JSON object of a document, with its path for messages.
package struct JSONObject {
  package let values: JSONMembers
  /// For example `config.json: text_config.`
  package let place: String

  package init(_ value: JSONValue, place: String) throws(CheckpointError) {
    guard case .object(let values) = value else {
      throw CheckpointError(
        .malformed, place + (place.hasSuffix(" ") ? "" : " ") + "expected an object, found \(value.kind)")
    }
    self.values = values
    self.place = place
  }

  /// The value of a key, `nil` where it is absent or null.
  package func value(_ key: String) -> JSONValue? {
    guard let value = values[key], value != .null else { return nil }
    return value
  }

  package func object(_ key: String) throws(CheckpointError) -> JSONObject? {
    guard let value = value(key) else { return nil }
    return try JSONObject(value, place: "\(place)\(key).")
  }

  package func mismatch(_ key: String, _ expected: String, _ found: JSONValue?) -> CheckpointError {
    CheckpointError(.malformed, "\(place)\(key): expected \(expected), found \(found?.kind ?? "nothing")")
  }

  /// A whole number within `range`.
  package func integer(_ key: String, in range: ClosedRange<Int>, default fallback: Int? = nil)
    throws(CheckpointError) -> Int
  {
    guard let value = value(key) else {
      guard let fallback else { throw mismatch(key, "a whole number", nil) }
      return fallback
    }
    guard let number = value.whole, range.contains(number) else {
      throw mismatch(key, "a whole number from \(range.lowerBound) to \(range.upperBound)", value)
    }
    return number
  }

  /// A number above zero that fits a `Float`, as GGUF stores it.
  package func positive(_ key: String, default fallback: Double? = nil) throws(CheckpointError) -> Double {
    guard let value = value(key) else {
      guard let fallback else { throw mismatch(key, "a number above 0", nil) }
      return fallback
    }
    guard let number = value.double, Float(number) > 0, Float(number).isFinite else {
      throw mismatch(key, "a number above 0 that fits 32 bits", value)
    }
    return number
  }

  package func bool(_ key: String, default fallback: Bool) throws(CheckpointError) -> Bool {
    guard let value = value(key) else { return fallback }
    guard case .bool(let flag) = value else { throw mismatch(key, "true or false", value) }
    return flag
  }

  package func string(_ key: String) throws(CheckpointError) -> String? {
    guard let value = value(key) else { return nil }
    guard case .string(let text) = value else { throw mismatch(key, "a string", value) }
    return text
  }

  /// One whole number or a list of them; empty where the key is absent.
  package func integers(_ key: String, in range: ClosedRange<Int>) throws(CheckpointError) -> [Int] {
    guard let value = value(key) else { return [] }
    let items = if case .array(let items) = value { items } else { [value] }
    var numbers: [Int] = []
    for item in items {
      guard let number = item.whole, range.contains(number) else {
        throw mismatch(key, "whole numbers from \(range.lowerBound) to \(range.upperBound)", item)
      }
      numbers.append(number)
    }
    return numbers
  }
}
