import Foundation
import JSON
import TensorFormats
import Testing

/// Documents written to files and read back.
@Suite struct FileTests {
  /// Characters of ASCII and beyond, in the same sequence in every run.
  private struct Numbers: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var z = state
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return z ^ (z >> 31)
    }
  }

  private func value(_ depth: Int, _ numbers: inout Numbers) -> JSONValue {
    switch Int.random(in: 0..<(depth > 4 ? 5 : 8), using: &numbers) {
    case 0: return .null
    case 1: return .bool(.random(using: &numbers))
    case 2:
      return .integer(Int(truncatingIfNeeded: numbers.next() >> UInt64.random(in: 0..<64, using: &numbers)))
    case 3:
      let double = Double(bitPattern: numbers.next())
      return double.isFinite ? .number(JSONNumber(double)) : .number(JSONNumber(0.5))
    case 4: return .string(JSONTestTexts.all.randomElement(using: &numbers) ?? "")
    case 5, 6:
      return .array((0..<Int.random(in: 0..<5, using: &numbers)).map { _ in value(depth + 1, &numbers) })
    default:
      var members = JSONMembers()
      for _ in 0..<Int.random(in: 0..<5, using: &numbers) {
        let key =
          (JSONTestTexts.all.randomElement(using: &numbers) ?? "")
          + "\(Int.random(in: 0..<30, using: &numbers))"
        members[key] = value(depth + 1, &numbers)
      }
      return .object(members)
    }
  }

  @Test("documents are read back as written, in every layout", arguments: 0..<300 as Range<UInt64>)
  func roundTrip(seed: UInt64) throws {
    var numbers = Numbers(state: seed)
    let value = value(0, &numbers)
    for text in [JSONText.document(value), Array(JSONText.compact(value).utf8), try JSONText.file(value)] {
      let read = try JSONValue(parsing: text)
      #expect(read == value)
      #expect(read.sorted == value)
      #expect(try JSONText.file(read) == JSONText.file(value))
      // Foundation reads the same text.
      #expect(throws: Never.self) {
        try JSONSerialization.jsonObject(with: Data(text), options: .fragmentsAllowed)
      }
    }
    #expect(try JSONValue(parsing: JSONText.document(value)).members?.keys == value.members?.keys)
  }

  @Test(
    "a file has the layout of Foundation's encoder, to the byte",
    arguments: [
      "{}", "[]", "1", "\"a/b\"",
      #"{"b": 1, "a": [1, 2.5, "x"], "c": {"z": null, "y": []}, "d": {}, "e": [[], {}, [[]]]}"#,
      #"{"rope_theta": 500000, "eps": 1e-05, "tiny": 1e-30, "big": 1e+22, "flag": true, "B": 0, "_": 0}"#,
      #"["\u0000\u001f\b\f\n\r\t\"\\/", "\u007f\u0080\u009b", "é漢🎛", "\u2028\u2029\u202e"]"#,
      #"{"moe_layers_enum": "4,5", "rope_scaling": null, "eos_token_id": [1, 2], "a1": 1, "a10": 2, "a2": 3, "A": 4}"#,
    ])
  func foundation(text: String) throws {
    let value = try JSONValue(parsing: Array(text.utf8))
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    let expected = String(decoding: try encoder.encode(value), as: UTF8.self)
    #expect(String(decoding: try JSONText.file(value), as: UTF8.self) == expected)
  }

  @Test(
    "writing a number that JSON cannot express is refused",
    arguments: ["NaN", "[1, Infinity]", "{\"a\": -Infinity}"])
  func notFinite(text: String) throws {
    let value = try JSONValue(parsing: Array(text.utf8), dialect: .python)
    let error = #expect(throws: CheckpointError.self) { try JSONText.file(value) }
    #expect(error?.code == .unsupported)
  }

  @Test(
    "damaged text is refused with its offset, or is JSON to Foundation as well",
    arguments: 0..<200 as Range<UInt64>)
  func damage(seed: UInt64) throws {
    var numbers = Numbers(state: seed &+ 1_000_000)
    var text = try JSONText.file(value(0, &numbers))
    for _ in 0..<Int.random(in: 1...4, using: &numbers) where !text.isEmpty {
      let place = Int.random(in: 0..<text.count, using: &numbers)
      switch Int.random(in: 0..<3, using: &numbers) {
      case 0: text[place] = UInt8(truncatingIfNeeded: numbers.next())
      case 1: text.remove(at: place)
      default: text.insert(Array("{}[],:\"\\0-e.".utf8).randomElement(using: &numbers) ?? 0x20, at: place)
      }
    }
    do throws(CheckpointError) {
      let read = try JSONValue(parsing: text)
      #expect(try JSONValue(parsing: JSONText.file(read)) == read)
      // Whatever is accepted here is JSON to Foundation, which allows more.
      #expect(throws: Never.self) {
        try JSONSerialization.jsonObject(with: Data(text), options: .fragmentsAllowed)
      }
    } catch {
      #expect(error.code == .malformed && (0...text.count).contains(error.offset ?? -1), "\(error)")
    }
  }
}
