import Checkpoint
import CheckpointTesting
import Foundation
import Testing

/// `step3-verify tensors`
@Suite("step3-verify tensors") struct VerifyTensorsTests {
  private let source = Fixtures.path("checkpoints/tiny")

  @Test func aSoundConversionPasses() async throws {
    let directory = try TemporaryDirectory()
    try await convert("tiny", to: .gguf, recipe: "Q4_K", into: directory.path("q4"))
    let text = try runTool("step3-verify", ["tensors", directory.path("q4"), "--source", source])
    #expect(text.status == 0 && text.error.isEmpty)
    #expect(text.output.contains("as close to \(source) as their formats allow"))
    let result = try runTool(
      "step3-verify", ["tensors", directory.path("q4"), "--source", source, "--json", "--threads", "1"])
    #expect(result.status == 0)
    let json = try result.json()
    #expect(json["ok"] as? Bool == true && (json["findings"] as? [Any])?.isEmpty == true)
    let tensors = try #require(json["tensors"] as? [[String: Any]])
    let tensor = try #require(tensors.first { $0["name"] as? String == "model.layers.1.moe.up_proj.weight" })
    #expect(tensor["from"] as? String == "BF16" && tensor["to"] as? String == "Q4_K")
    #expect(tensor["shape"] as? [Int] == [8, 256, 256])
    let relative = try #require(tensor["relativeRMSE"] as? Double)
    #expect((0.06...0.09).contains(relative) && relative < tensor["limit"] as? Double ?? 0)
    let snr = try #require(tensor["snr"] as? Double)
    #expect(abs(snr + 20 * log10(relative)) < 1e-9)
    let formats = try #require(json["formats"] as? [[String: Any]])
    #expect(formats.contains { $0["to"] as? String == "Q4_K" && $0["outOfLine"] as? Int == 0 })
    // The manifest records the same errors, measured while the tensor was written.
    let manifest = try #require(
      try JSONSerialization.jsonObject(
        with: Data(contentsOf: URL(filePath: directory.path("q4/manifest.json")))) as? [String: Any])
    let recorded = try #require(
      (manifest["tensors"] as? [[String: Any]])?.first {
        $0["name"] as? String == "blk.1.ffn_up_exps.weight"
      })
    let errors = try #require(
      recorded["error"] as? [String: Any])
    let rmse = try #require(errors["rmse"] as? Double)
    #expect(abs(rmse - (tensor["rmse"] as? Double ?? 0)) < 1e-6 * rmse)
  }

  @Test func aDamagedBlockIsReportedWithItsPlace() async throws {
    let directory = try TemporaryDirectory()
    try await convert("tiny", to: .gguf, recipe: "Q8_0", into: directory.path("q8"))
    let checkpoint = try Checkpoint.open(directory.path("q8"))
    let tensor = try #require(checkpoint["blk.1.ffn_up_exps.weight"])
    let url = URL(filePath: directory.path("q8/\(checkpoint.files[tensor.file].name)"))
    var data = try Data(contentsOf: url)
    // The sign bit of one block's scale, in the fourth expert.
    let block = 3 * 256 * 8 + 100 * 8 + 5
    data[tensor.byteRange.lowerBound + block * 34 + 1] ^= 0x80
    try data.write(to: url)
    let result = try runTool("step3-verify", ["tensors", directory.path("q8"), "--source", source])
    #expect(result.status == 1)
    #expect(
      result.output.hasPrefix(
        "FAILED: model.layers.1.moe.up_proj.weight: 1 blocks in 1 rows are off by more than Q8_0 explains: "
          + "the worst, at matrix 3, row 100, column 160 to 191, by "))
    #expect(result.output.contains("1 finding in "))
    // Tensors outside the filter are not checked.
    let other = try runTool(
      "step3-verify", ["tensors", directory.path("q8"), "--source", source, "--filter", "down_proj"])
    #expect(other.status == 0)
  }

  @Test func twoGGUFFilesOfDifferentPrecisionAgree() async throws {
    let directory = try TemporaryDirectory()
    try await convert("tiny", to: .gguf, recipe: "Q8_0", into: directory.path("q8"))
    try await convert("tiny", to: .gguf, recipe: "Q4_0", into: directory.path("q4"))
    let paths = [directory.path("q4"), directory.path("q8")]
    #expect(try runTool("step3-verify", ["tensors", paths[0], "--source", paths[1]]).status == 0)
    // In the other direction the errors add as well: both may derive from a third checkpoint.
    #expect(try runTool("step3-verify", ["tensors", paths[1], "--source", paths[0]]).status == 0)
  }

  @Test func missingAndUnexpectedTensorsAreReported() async throws {
    let directory = try TemporaryDirectory()
    #expect(try runTool("step3-verify", ["tensors", source]).status == 64)
    #expect(
      try runTool("step3-verify", ["tensors", directory.path("none"), "--source", source]).status == 66)
    #expect(
      try runTool("step3-verify", ["tensors", source, "--source", source, "--filter", "("]).status == 64)
    var file = WeightFile()
    file.add("model.norm.weight", "BF16", [UInt16](repeating: 0x3F80, count: 256))
    file.add("stranger", "F32", [Float(1)])
    try file.write(to: directory.path("some.safetensors"))
    let result = try runTool(
      "step3-verify", ["tensors", directory.path("some.safetensors"), "--source", source, "--json"])
    #expect(result.status == 1)
    let findings = try #require(try result.json()["findings"] as? [[String: Any]])
    let kinds = findings.compactMap { $0["kind"] as? String }
    #expect(kinds.contains("missing") && kinds.contains("unexpected") && kinds.contains("notExact"))
  }
}
