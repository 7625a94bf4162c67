import CommandSupport
import Foundation
import JSON
import ShardPlanning
import Testing

@Suite("kinds of JSON documents") struct DocumentKindTests {
  @Test("each kind has a schema of its version", arguments: DocumentKind.allCases)
  func schema(kind: DocumentKind) throws {
    let data = try Data(contentsOf: URL(filePath: "Manuals/schema/\(kind.rawValue).schema.json"))
    let schema = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
    #expect(schema["$id"] as? String == kind.identifier)
  }

  @Test func theVersionOfPlansIsThatOfShardPlan() {
    #expect(DocumentKind.plan.version == ShardPlan.currentVersion)
  }

  private struct Document: Encodable {
    let name: String
    let inner: [Inner]

    struct Inner: Encodable { let number: Int }
  }

  @Test func theSchemaComesFirst() {
    let document = Document(name: "x", inner: [.init(number: 1)])
    #expect(
      JSONText.compact(document, schema: "s")
        == #"{ "schema": "s", "name": "x", "inner": [{ "number": 1 }] }"#)
    #expect(JSONText.compact(document) == #"{ "name": "x", "inner": [{ "number": 1 }] }"#)
    // In an array each element has a schema.
    #expect(
      JSONText.compact([document, document], schema: "s").components(separatedBy: #""schema": "s""#).count
        == 3)
    #expect(JSONText.compact([Document](), schema: "s") == "[]")
  }
}
