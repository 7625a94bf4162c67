import CheckpointTesting
import Foundation
import Testing

/// `step3-inspect diff`
@Suite("step3-inspect diff") struct InspectDiffTests {
  private func diff(_ a: WeightFile, _ b: WeightFile, _ arguments: [String] = []) throws
    -> (status: Int32, json: [String: Any])
  {
    let directory = try TemporaryDirectory()
    try a.write(to: directory.path("a.safetensors"))
    try b.write(to: directory.path("b.safetensors"))
    let result = try runTool(
      "step3-inspect",
      ["diff", directory.path("a.safetensors"), directory.path("b.safetensors"), "--json"] + arguments)
    return (result.status, try result.json())
  }

  private let values: [Float] = (0..<100_000).map { Float($0 % 251) - 100 }

  @Test func aCheckpointEqualsItself() throws {
    let path = Fixtures.path("checkpoints/tiny-fp8")
    let result = try runTool("step3-inspect", ["diff", path, path])
    #expect(result.status == 0)
    #expect(result.output.hasPrefix("equal: "))
  }

  @Test func equalValuesInAnotherTypeAreEqualUnlessExactnessIsAsked() throws {
    var a = WeightFile()
    a.add("w", "F32", values)
    var b = WeightFile()
    b.add("w", "BF16", WeightFile.bfloat16(values))
    let (status, json) = try diff(a, b)
    #expect(status == 0)
    #expect((json["summary"] as? [String: Int])?["sameValues"] == 1)
    #expect(try diff(a, b, ["--exact"]).status == 1)
  }

  @Test func measuresDifferences() throws {
    var changed = values
    changed[70_000] += 4
    changed[99_999] -= 3
    var a = WeightFile()
    a.add("w", "F32", values)
    var b = WeightFile()
    b.add("w", "BF16", WeightFile.bfloat16(changed))
    let (status, json) = try diff(a, b)
    #expect(status == 1)
    let pair = try #require((json["pairs"] as? [[String: Any]])?.first)
    let errors = try #require(pair["errors"] as? [String: Any])
    #expect(pair["outcome"] as? String == "different")
    #expect(errors["count"] as? Int == 2)
    #expect(errors["maxAbs"] as? Double == 4)
    #expect(errors["firstIndex"] as? Int == 70_000)
    #expect(errors["rmse"] as? Double == (25.0 / 100_000).squareRoot())
  }

  @Test func reportsNamesShapesAndIntegersThatDiffer() throws {
    var a = WeightFile()
    a.add("gone", "F32", [Float(1)])
    a.add("bent", "F32", [2, 3], Data(count: 24))
    a.add("ids", "I64", [Int64(1) << 60, 5])
    var b = WeightFile()
    b.add("bent", "F32", [3, 2], Data(count: 24))
    b.add("ids", "I64", [(Int64(1) << 60) + 1, 5])
    b.add("new", "F32", [Float(1)])
    let (status, json) = try diff(a, b)
    #expect(status == 1)
    #expect(json["onlyInA"] as? [String] == ["gone"])
    #expect(json["onlyInB"] as? [String] == ["new"])
    let pairs = try #require(json["pairs"] as? [[String: Any]])
    #expect(pairs.map { $0["outcome"] as? String } == ["shape", "different"])
    #expect((pairs[1]["errors"] as? [String: Any])?["maxAbs"] as? Double == 1)
    #expect((pairs[1]["errors"] as? [String: Any])?["firstIndex"] as? Int == 0)
  }

  @Test func nanEqualsOnlyNaN() throws {
    var a = WeightFile()
    a.add("w", "F32", [Float.nan, .infinity, 1, .infinity])
    var b = WeightFile()
    b.add("w", "BF16", WeightFile.bfloat16([.nan, .infinity, 1, -.infinity]))
    let (status, json) = try diff(a, b)
    #expect(status == 1)
    let errors = try #require((json["pairs"] as? [[String: Any]])?.first?["errors"] as? [String: Any])
    #expect(errors["count"] as? Int == 1)
    #expect(errors["nonFinite"] as? Int == 1)
    #expect(errors["firstIndex"] as? Int == 3)
  }
}
