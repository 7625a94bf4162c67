import CheckpointTesting
import Foundation
import Step3Model
import Testing

/// `step3-inspect` on checkpoints of full size: sparse files behind real headers.
@Suite("step3-inspect at full scale", .serialized) struct InspectScaleTests {
  /// The tool's peak memory, as it reports it.
  private func peakMemory(_ arguments: [String]) throws -> Int {
    let result = try runTool("step3-inspect", arguments + ["--verbose"])
    #expect(result.status == 0)
    let note = try #require(result.error.firstMatch(of: /peak memory: .*\((\d+) bytes\)/), "\(result.error)")
    return try #require(Int(note.1))
  }

  @Test func aWholeModelIsListed() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path("step3")
    try SparseCheckpoint.write(.published, to: URL(filePath: path))
    let json = try runTool("step3-inspect", ["list", path, "--json"]).json()
    #expect(json["parameters"] as? Int == 320_969_912_832)
    #expect((json["tensors"] as? [Any])?.count == 1663)
    // Computed without any weight: the sizes of the parts follow from the model's configuration.
    let roles = try #require(json["roles"] as? [String: [String: Int]])
    let hidden = 7168
    let moe = 56
    #expect(
      roles.mapValues { $0["parameters"] ?? 0 } == [
        "embedding": 128_815 * hidden,
        "lm_head": 128_815 * hidden,
        "attention": 61
          * (hidden * 2048 + 2048 + 2048 * 64 * 256 + 2 * 256 * hidden + 64 * 256 * hidden),
        "router": moe * 48 * hidden,
        "routed_experts": moe * 48 * 3 * 5120 * hidden,
        "shared_expert": moe * 3 * 5120 * hidden,
        "dense_ffn": 5 * 3 * 18_432 * hidden,
        "norm": (61 * 2 + 1) * hidden,
        "vision": 4_616_654_336,
        "projector": 58_720_256,
      ])
    #expect(roles.values.reduce(0) { $0 + ($1["bytes"] ?? 0) } == 641_939_825_664)
    let memory = try peakMemory(["list", path, "--json"])
    #expect((1_000_000..<100_000_000).contains(memory), "\(memory) bytes")
  }

  @Test func aHundredThousandTensorsAreListed() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path("many.safetensors")
    let entries = (0..<100_000).map {
      SparseCheckpoint.Entry(name: "tensor.\($0).weight", type: "BF16", shape: [2, 2], bytes: 8)
    }
    try SparseCheckpoint.write(entries, to: URL(filePath: path))
    let json = try runTool("step3-inspect", [path, "--json"]).json()
    #expect((json["tensors"] as? [Any])?.count == 100_000)
    #expect(json["parameters"] as? Int == 400_000)
    let difference = try runTool("step3-inspect", ["diff", path, path])
    #expect(difference.status == 0)
    #expect(difference.output == "equal: 100,000 identical\n")
  }

  @Test func memoryDoesNotGrowWithATensor() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path("large.safetensors")
    let bytes = 512 << 20
    try SparseCheckpoint.write(
      [.init(name: "large", type: "BF16", shape: [bytes / 2], bytes: bytes)], to: URL(filePath: path))
    for arguments in [["stats", path, "--threads", "4"], ["diff", path, path, "--threads", "4"]] {
      let memory = try peakMemory(arguments + ["--progress", "none"])
      #expect((1_000_000..<40_000_000).contains(memory), "\(arguments[0]): \(memory) bytes")
    }
  }
}
