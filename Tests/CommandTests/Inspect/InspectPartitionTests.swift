import Checkpoint
import CheckpointTesting
import Foundation
import ShardPlanning
import Testing

/// `step3-inspect` on partition sets: replicated and sliced weights.
@Suite("step3-inspect on partition sets") struct InspectPartitionTests {
  static let layout = ShardPlan.Partition.afd(ShardPlan.AFDLayout(ffnEP: 2))

  private func inspect(_ arguments: [String]) throws -> (status: Int32, json: [String: Any]) {
    let result = try runTool("step3-inspect", arguments + ["--json"])
    #expect(result.error.isEmpty, "\(result.error)")
    return (result.status, try result.json())
  }

  @Test("a weight replicated in every part is counted once", arguments: ["tiny", "odd"])
  func list(fixture: String) async throws {
    let directory = try TemporaryDirectory()
    try await convert(fixture, to: .safetensors, partition: Self.layout, into: directory.path("set"))
    let (_, set) = try inspect([directory.path("set")])
    let (_, source) = try inspect([Fixtures.path("checkpoints/\(fixture)")])
    #expect(set["parameters"] as? Int == source["parameters"] as? Int)
    let (parts, whole) = (
      try #require(set["roles"] as? [String: [String: Int]]),
      try #require(source["roles"] as? [String: [String: Int]])
    )
    for (role, totals) in whole { #expect(parts[role]?["parameters"] == totals["parameters"], "\(role)") }
    // Both FFN parts store the shared experts: more tensors and at least as many bytes.
    let (tensors, original) = (set["tensors"] as? [Any], source["tensors"] as? [Any])
    #expect((tensors?.count ?? 0) > (original?.count ?? 0))
    #expect((set["bytes"] as? Int ?? 0) >= (source["bytes"] as? Int ?? .max))
    let words = try runTool("step3-inspect", [directory.path("set"), "--filter", "moe.gate_proj"]).output
    #expect(words.contains("ffn-ep0\n") && words.contains("ffn-ep1\n"))
  }

  @Test(
    "a set equals its source, in either order and format", arguments: ["tiny", "odd", "tiny-fp8"],
    [Checkpoint.Format.safetensors, .gguf])
  func equalsItsSource(fixture: String, format: Checkpoint.Format) async throws {
    let directory = try TemporaryDirectory()
    let set = directory.path("set")
    let recipe = format == .gguf ? "F32" : "keep"
    try await convert(fixture, to: format, recipe: recipe, partition: Self.layout, into: set)
    let source = Fixtures.path("checkpoints/\(fixture)")
    for paths in [[source, set], [set, source], [set, set]] {
      let (status, json) = try inspect(["diff"] + paths)
      #expect(status == 0)
      #expect(json["equal"] as? Bool == true)
      #expect((json["incomplete"] as? [Any])?.isEmpty == true)
      let summary = try #require(json["summary"] as? [String: Int])
      #expect(summary["different"] == 0)
    }
  }

  @Test func quantisedSlicesEqualTheQuantisedWhole() async throws {
    let directory = try TemporaryDirectory()
    try await convert("tiny", to: .gguf, recipe: "Q8_0", into: directory.path("whole"))
    try await convert("tiny", to: .gguf, recipe: "Q8_0", partition: Self.layout, into: directory.path("set"))
    let (status, json) = try inspect(["diff", directory.path("whole"), directory.path("set")])
    #expect(status == 0)
    #expect((json["summary"] as? [String: Int])?["different"] == 0)
  }

  @Test func findsAChangedByteInASlice() async throws {
    let directory = try TemporaryDirectory()
    let set = directory.path("set")
    try await convert("tiny", to: .safetensors, partition: Self.layout, into: set)
    let name = "model.layers.1.moe.down_proj.weight"
    let (_, listing) = try inspect([set, "--filter", "^\(name)$"])
    let tensors = try #require(listing["tensors"] as? [[String: Any]])
    #expect(tensors.count == 2)
    let tensor = try #require(tensors.last)
    #expect((tensor["file"] as? String)?.hasPrefix("ffn-ep1/") == true)
    // Element 70,000 of the second half of the experts: the sign of a BF16.
    let path = URL(filePath: "\(set)/\(try #require(tensor["file"] as? String))")
    var data = try Data(contentsOf: path)
    let offset = try #require(tensor["offset"] as? Int) + 70_000 * 2 + 1
    data[offset] ^= 0x80
    try data.write(to: path)

    let (status, json) = try inspect(["diff", Fixtures.path("checkpoints/tiny"), set])
    #expect(status == 1)
    let pairs = try #require(json["pairs"] as? [[String: Any]])
    #expect(pairs.count == 1)
    let pair = try #require(pairs.first)
    #expect((pair["a"] as? [String: Any])?["name"] as? String == name)
    #expect((pair["a"] as? [String: Any])?["shape"] as? [Int] == [8, 256, 256])
    #expect((pair["b"] as? [String: Any])?["shape"] as? [Int] == [4, 256, 256])
    let slice = try #require(pair["slice"] as? [String: [Int]])
    #expect(slice == ["origin": [4, 0, 0], "extent": [4, 256, 256]])
    let errors = try #require(pair["errors"] as? [String: Any])
    #expect(errors["count"] as? Int == 1)
    #expect(errors["firstIndex"] as? Int == 4 * 256 * 256 + 70_000)
  }

  @Test func onePartIsReportedAsIncomplete() async throws {
    let directory = try TemporaryDirectory()
    try await convert("tiny", to: .safetensors, partition: Self.layout, into: directory.path("set"))
    let part = directory.path("set/ffn-ep0")
    let (status, json) = try inspect(["diff", Fixtures.path("checkpoints/tiny"), part])
    #expect(status == 1)
    #expect((json["onlyInA"] as? [String])?.contains("model.embed_tokens.weight") == true)
    #expect(json["onlyInB"] as? [String] == [])
    // What the part has is right, and half of each expert tensor is missing.
    #expect((json["summary"] as? [String: Int])?["different"] == 0)
    let incomplete = try #require(json["incomplete"] as? [[String: Any]])
    let experts = try #require(
      incomplete.first { $0["name"] as? String == "model.layers.1.moe.up_proj.weight" })
    #expect(experts["elements"] as? Int == 8 * 256 * 256)
    #expect(experts["inB"] as? Int == 4 * 256 * 256)
    #expect(experts["inBoth"] as? Int == 4 * 256 * 256)
    #expect(try inspect(["diff", part, part]).status == 0)
  }

  @Test func statisticsOfASliceAreThoseOfItsElements() async throws {
    let directory = try TemporaryDirectory()
    try await convert("tiny", to: .safetensors, partition: Self.layout, into: directory.path("set"))
    func figures(_ path: String) throws -> [[String: Any]] {
      let (_, json) = try inspect(["stats", path, "--filter", "layers.1.moe.up_proj"])
      return try #require(json["tensors"] as? [[String: Any]])
    }
    let whole = try #require(try figures(Fixtures.path("checkpoints/tiny")).first)
    let parts = try figures(directory.path("set"))
    #expect(parts.count == 2)
    #expect(parts.compactMap { $0["minimum"] as? Double }.min() == whole["minimum"] as? Double)
    #expect(parts.compactMap { $0["maximum"] as? Double }.max() == whole["maximum"] as? Double)
    let means = parts.compactMap { $0["mean"] as? Double }
    #expect(abs(means.reduce(0, +) / 2 - (whole["mean"] as? Double ?? .nan)) < 1e-12)
  }

  @Test func aSliceOfTheWrongSizeIsNamed() async throws {
    let directory = try TemporaryDirectory()
    let set = directory.path("set")
    try await convert("tiny", to: .safetensors, partition: Self.layout, into: set)
    let path = URL(filePath: "\(set)/ffn-ep0/config.json")
    let text = try String(contentsOf: path, encoding: .utf8)
    let broken = text.replacingOccurrences(of: "\"origin\": [0, 0, 0]", with: "\"origin\": [7, 0, 0]")
    #expect(broken != text)
    try Data(broken.utf8).write(to: path)
    let result = try runTool("step3-inspect", [set])
    #expect(result.status == 65)
    #expect(result.error.contains("ffn-ep0/config.json") && result.error.contains("step3_partition.slices"))
  }
}
