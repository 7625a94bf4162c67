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

  @Test func wordsGroupFilesThatSayTheSame() throws {
    let result = try runTool("step3-inspect", ["metadata", Fixtures.path("checkpoints/odd")])
    #expect(result.status == 0)
    #expect(result.output.contains("text_config.hidden_size"))
    #expect(result.output.contains("model-00001-of-00004.safetensors and 3 more files"))
  }
}
