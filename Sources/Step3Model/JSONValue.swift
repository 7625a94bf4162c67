internal import ByteStreams
package import Safetensors
package import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// A JSON document of which only some keys are known beforehand, such as `config.json`.
package indirect enum JSONValue: Hashable, Sendable, Encodable {
  case null
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  package func encode(to encoder: any Encoder) throws {
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
  package var kind: String {
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

  /// The longest document that is parsed. Real ones have some kilobytes; one with a chat template in it some more.
  package static let largestDocument = 16 << 20

  /// Parses a whole document, as Python's `json` writes it: with `NaN` and `Infinity` for numbers, and whatever an editor
  /// put in front. `name` is what a message calls it.
  ///
  /// - Throws: `.malformed` with the byte offset for text that is not JSON, is nested more than 127 deep or is longer
  ///   than ``largestDocument``; also for a key that is there twice and a number beyond what a `Double` holds, because
  ///   other readers would take something else from them.
  package static func parse(_ bytes: [UInt8], name: String) throws(CheckpointError) -> JSONValue {
    guard bytes.count <= largestDocument else {
      throw CheckpointError(
        .malformed, "\(name): expected at most \(largestDocument) bytes, found \(bytes.count)")
    }
    do throws(CheckpointError) {
      var scanner = unsafe JSONScanner(bytes.span.bytes, dialect: .python)
      let value = try JSONValue(&scanner)
      try scanner.finish()
      // A server's refusal is a sound JSON object too.
      if case .object(let members) = value, members.count <= 4,
        case .serverMessage? = ForeignContent(prefix: bytes, byteCount: bytes.count, expected: .json)
      {
        throw CheckpointError(.malformed, "this is a server's answer")
      }
      return value
    } catch {
      var named = error.explained(prefix: bytes, byteCount: bytes.count, as: .json)
      named.message = "\(name): " + (named == error ? "expected a JSON document: " : "") + named.message
      throw named
    }
  }

  /// The numbers that Python writes and JSON does not have.
  private static let constants: Set<String> = ["NaN", "Infinity", "-Infinity"]

  /// Reads the next value. The scanner limits how deep this recurses.
  package init(_ scanner: inout JSONScanner) throws(CheckpointError) {
    switch try scanner.nextKind() {
    case .null:
      _ = try scanner.scanNull()
      self = .null
    case .bool: self = .bool(try scanner.scanBool("a value"))
    case .string: self = .string(try scanner.scanString("a value"))
    case .number:
      let text = try scanner.scanNumberText("a value")
      if let integer = Int(text) {
        self = .integer(integer)
      } else if let number = Double(text), number.isFinite || Self.constants.contains(text) {
        self = .number(number)
      } else {
        throw scanner.errorAtToken("the number \(text.printable) is too large")
      }
    case .array:
      var items: [JSONValue] = []
      var members = try scanner.openArray("a value")
      while try scanner.nextElement(&members) { items.append(try JSONValue(&scanner)) }
      self = .array(items)
    case .object:
      var values: [String: JSONValue] = [:]
      var members = try scanner.openObject("a value")
      while let key = try scanner.nextKey(&members) {
        guard values[key] == nil else {
          throw scanner.errorAtToken("the key '\(key.printable)' is there twice")
        }
        values[key] = try JSONValue(&scanner)
      }
      self = .object(values)
    }
  }

  /// The document as indented text with sorted keys.
  package func serialized() throws(CheckpointError) -> [UInt8] {
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
package struct JSONObject {
  package let values: [String: JSONValue]
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
    guard case .integer(let number) = value, range.contains(number) else {
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
    switch value {
    case .integer(let number) where number > 0: return Double(number)
    case .number(let number) where Float(number) > 0 && Float(number).isFinite: return number
    default: throw mismatch(key, "a number above 0 that fits 32 bits", value)
    }
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
      guard case .integer(let number) = item, range.contains(number) else {
        throw mismatch(key, "whole numbers from \(range.lowerBound) to \(range.upperBound)", item)
      }
      numbers.append(number)
    }
    return numbers
  }

  /// The ids of tokens. A negative one means none, as in `transformers` and llama.cpp.
  package func tokenIDs(_ key: String, in range: ClosedRange<Int>) throws(CheckpointError) -> [Int] {
    let ids = try integers(key, in: Int.min...Int.max).filter { $0 >= 0 }
    for id in ids where !range.contains(id) {
      throw mismatch(key, "whole numbers from \(range.lowerBound) to \(range.upperBound)", .integer(id))
    }
    return ids
  }

  /// The text of a token that is named by its text, or by an object with its `content`.
  package func tokenText(_ key: String) throws(CheckpointError) -> String? {
    guard case .object? = value(key) else { return try string(key) }
    return try object(key)?.string("content")
  }
}
