internal import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// A JSON document of which only some keys are known beforehand, such as `config.json`.
indirect enum JSONValue: Hashable, Sendable, Codable {
  case null
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Int.self) {
      self = .integer(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode([JSONValue].self) {
      self = .array(value)
    } else {
      self = .object(try container.decode([String: JSONValue].self))
    }
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .null: try container.encodeNil()
    case .bool(let value): try container.encode(value)
    case .integer(let value): try container.encode(value)
    case .number(let value): try container.encode(value)
    case .string(let value): try container.encode(value)
    case .array(let value): try container.encode(value)
    case .object(let value): try container.encode(value)
    }
  }

  /// What a message calls this value.
  var kind: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .number(let value): "\(value)"
    case .string(let value): "the string '\(value.printable)'"
    case .array: "a list"
    case .object: "an object"
    }
  }

  /// Parses a whole document; `name` is what a message calls it.
  static func parse(_ bytes: [UInt8], name: String) throws(CheckpointError) -> JSONValue {
    do {
      return try JSONDecoder().decode(JSONValue.self, from: Data(bytes))
    } catch {
      throw CheckpointError(
        .malformed, "\(name): expected a JSON document, found \(bytes.count) bytes that are none")
    }
  }

  /// The document as indented text with sorted keys.
  func serialized() throws(CheckpointError) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    do {
      return Array(try encoder.encode(self))
    } catch {
      throw CheckpointError(.unsupported, "a number of the document cannot be written as JSON")
    }
  }
}

/// One JSON object of a document, which knows its place for messages.
struct JSONObject {
  let values: [String: JSONValue]
  /// For example `config.json: text_config.`
  let place: String

  init(_ value: JSONValue, place: String) throws(CheckpointError) {
    guard case .object(let values) = value else {
      throw CheckpointError(.malformed, "\(place) expected an object, found \(value.kind)")
    }
    self.values = values
    self.place = place
  }

  /// The value of a key, `nil` where it is absent or null.
  func value(_ key: String) -> JSONValue? {
    guard let value = values[key], value != .null else { return nil }
    return value
  }

  func object(_ key: String) throws(CheckpointError) -> JSONObject? {
    guard let value = value(key) else { return nil }
    return try JSONObject(value, place: "\(place)\(key).")
  }

  func mismatch(_ key: String, _ expected: String, _ found: JSONValue?) -> CheckpointError {
    CheckpointError(.malformed, "\(place)\(key): expected \(expected), found \(found?.kind ?? "nothing")")
  }

  /// A whole number within `range`.
  func integer(_ key: String, in range: ClosedRange<Int>, default fallback: Int? = nil)
    throws(CheckpointError) -> Int
  {
    guard let value = value(key) else {
      guard let fallback else { throw mismatch(key, "a whole number", nil) }
      return fallback
    }
    guard case .integer(let number) = value, range.contains(number) else {
      throw mismatch(key, "a whole number from \(range.lowerBound) to \(range.upperBound)", value)
    }
    return number
  }

  /// A finite number above zero.
  func positive(_ key: String, default fallback: Double? = nil) throws(CheckpointError) -> Double {
    guard let value = value(key) else {
      guard let fallback else { throw mismatch(key, "a number above 0", nil) }
      return fallback
    }
    switch value {
    case .integer(let number) where number > 0: return Double(number)
    case .number(let number) where number > 0 && number.isFinite: return number
    default: throw mismatch(key, "a number above 0", value)
    }
  }

  func bool(_ key: String, default fallback: Bool) throws(CheckpointError) -> Bool {
    guard let value = value(key) else { return fallback }
    guard case .bool(let flag) = value else { throw mismatch(key, "true or false", value) }
    return flag
  }

  func string(_ key: String) throws(CheckpointError) -> String? {
    guard let value = value(key) else { return nil }
    guard case .string(let text) = value else { throw mismatch(key, "a string", value) }
    return text
  }

  /// One whole number or a list of them; empty where the key is absent.
  func integers(_ key: String, in range: ClosedRange<Int>) throws(CheckpointError) -> [Int] {
    guard let value = value(key) else { return [] }
    let items = if case .array(let items) = value { items } else { [value] }
    var numbers: [Int] = []
    for item in items {
      guard case .integer(let number) = item, range.contains(number) else {
        throw mismatch(key, "whole numbers from \(range.lowerBound) to \(range.upperBound)", item)
      }
      numbers.append(number)
    }
    return numbers
  }
}
