import CheckpointTesting
import Foundation
import Testing

/// `step3-inspect metadata`
@Suite("step3-inspect metadata") struct InspectMetadataTests {
  @Test func configurationIsComplete() throws {
    let path = Fixtures.path("checkpoints/odd")
    let json = try runTool("step3-inspect", ["metadata", path, "--json"]).json()
    let original = try JSONSerialization.jsonObject(
      with: Data(contentsOf: URL(filePath: "\(path)/config.json")))
    #expect((json["config"] as? NSDictionary) == (original as? NSDictionary))
    let files = try #require(json["files"] as? [[String: Any]])
    #expect(files.count == 4)
    #expect(files.allSatisfy { ($0["metadata"] as? [String: String]) == ["format": "pt"] })
  }

  @Test func filesWithTheSameMetadataAreGrouped() throws {
    let result = try runTool("step3-inspect", ["metadata", Fixtures.path("checkpoints/odd")])
    #expect(result.status == 0)
    #expect(result.output.contains("text_config.hidden_size"))
    #expect(result.output.contains("model-00001-of-00004.safetensors and 3 more files"))
  }

  @Test func configurationKeepsItsOrderAndTheSpellingOfNumbers() throws {
    let directory = try TemporaryDirectory()
    var file = WeightFile()
    file.add("w", "F32", [Float(1)])
    try file.write(to: directory.path("model.safetensors"))
    let members = [
      #""zeta": 1e-05"#, #""alpha": 500000.0"#, #""large": 123456789012345678901234567890"#, #""mid": -0.10"#,
      #""nested": { "b": [1, 2.50, "x\u00e9"], "a": null }"#, #""exponent": 1E+2"#,
    ]
    let text = "{ \(members.joined(separator: ", ")) }"
    try Data(text.utf8).write(to: URL(filePath: directory.path("config.json")))
    let result = try runTool("step3-inspect", ["metadata", directory.path, "--json"])
    #expect(result.status == 0)
    let squeezed = result.output.filter { !$0.isWhitespace }
    let expected = text.replacingOccurrences(of: "\\u00e9", with: "é").filter { !$0.isWhitespace }
    #expect(squeezed.contains("\"config\":\(expected)"), "\(result.output)")
    let words = try runTool("step3-inspect", ["metadata", directory.path]).output
    #expect(words.contains("zeta         1e-05\nalpha        500000.0\n"), "\(words)")
  }

  @Test func aBrokenConfigurationIsReportedWithItsPosition() throws {
    let directory = try TemporaryDirectory()
    var file = WeightFile()
    file.add("w", "F32", [Float(1)])
    try file.write(to: directory.path("model.safetensors"))
    try Data(#"{"a": 1, "b": nul}"#.utf8).write(to: URL(filePath: directory.path("config.json")))
    let result = try runTool("step3-inspect", ["metadata", directory.path])
    #expect(result.status == 65)
    #expect(result.error.contains("config.json: byte 14"), "\(result.error)")
    // The weights can still be inspected.
    #expect(try runTool("step3-inspect", ["list", directory.path]).status == 0)
  }
}
