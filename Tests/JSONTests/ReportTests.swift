import Foundation
import JSON
import TensorFormats
import Testing

/// Reports for standard output.
@Suite struct ReportTests {
  struct Sample: Encodable {
    struct Element: Encodable {
      let name: String
      let shape: [Int]
    }
    let zulu = "first \"quoted\" \\ \n\u{1}é"
    let alpha: Int? = nil
    let number = 0.1
    let infinite = Double.infinity
    let list = [Element(name: "a", shape: [1, 2]), Element(name: "b", shape: [])]
    let none: [Element] = []
    let types: [ElementType] = [.bf16, .q4K]
    let flags = ["x": true]
  }

  @Test func documentsAreLaidOutReadably() {
    #expect(
      String(decoding: JSONText.document(Sample()), as: UTF8.self) == #"""
        {
          "zulu": "first \"quoted\" \\ \n\u0001é",
          "alpha": null,
          "number": 0.1,
          "infinite": null,
          "list": [
            { "name": "a", "shape": [1, 2] },
            { "name": "b", "shape": [] }
          ],
          "none": [],
          "types": ["BF16", "Q4_K"],
          "flags": {
            "x": true
          }
        }

        """#)
  }

  @Test func compactDocumentsAreOneLine() {
    #expect(JSONText.compact(Sample.Element(name: "a", shape: [1])) == #"{ "name": "a", "shape": [1] }"#)
    #expect(JSONText.compact([[1], [2, 3]]) == "[[1], [2, 3]]")
    #expect(JSONText.compact([String: Int]()) == "{}")
  }

  @Test func everyDocumentParses() throws {
    let parsed = try JSONSerialization.jsonObject(with: Data(JSONText.document(Sample()))) as? [String: Any]
    #expect(parsed?["zulu"] as? String == Sample().zulu)
    #expect((parsed?["list"] as? [[String: Any]])?.count == 2)
  }

  @Test("a non-finite number is null in a field, and its name in a JSON value")
  func notFinite() throws {
    #expect(JSONText.compact([Float.nan, -.infinity, 1.5]) == "[null, null, 1.5]")
    let value = try JSONValue(parsing: Array("[NaN, -Infinity, Infinity, 1]".utf8), dialect: .python)
    #expect(JSONText.compact(value) == #"["NaN", "-Infinity", "Infinity", 1]"#)
    #expect(JSONText.compact(JSONValue.number(JSONNumber(Float.infinity))) == #""Infinity""#)
  }

  @Test("a value keeps the order of keys and the spelling of numbers") func value() throws {
    let text = #"{ "b": 1e-05, "a": [1, 2.50, -0], "c": { "z": 123456789012345678901234567890, "y": null } }"#
    #expect(JSONText.compact(try JSONValue(parsing: Array(text.utf8))) == text)
  }

  @Test("control characters are escaped for terminals", arguments: JSONTestTexts.all)
  func terminal(text: String) throws {
    let report = String(decoding: JSONText.document([text: [text]]), as: UTF8.self)
    for scalar in report.unicodeScalars where scalar != "\n" {
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator:
        Issue.record("U+\(String(scalar.value, radix: 16)) is not escaped")
      default: break
      }
    }
    #expect(try JSONValue(parsing: Array(report.utf8)) == .object([text: .array([.string(text)])]))
  }
}
