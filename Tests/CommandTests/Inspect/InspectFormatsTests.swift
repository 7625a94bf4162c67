import Checkpoint
import CheckpointTesting
import Foundation
import Testing

/// `step3-inspect` on GGUF, and on one model in two formats.
@Suite("step3-inspect across formats") struct InspectFormatsTests {
  private func inspect(_ arguments: [String]) throws -> (status: Int32, json: [String: Any]) {
    let result = try runTool("step3-inspect", arguments + ["--json"])
    #expect(result.error.isEmpty, "\(result.error)")
    return (result.status, try result.json())
  }

  private func tensors(_ json: [String: Any]) throws -> [String: [String: Any]] {
    let tensors = try #require(json["tensors"] as? [[String: Any]])
    return Dictionary(uniqueKeysWithValues: tensors.map { ($0["name"] as? String ?? "", $0) })
  }

  @Test func listsGGUF() throws {
    let (status, json) = try inspect([Fixtures.path("golden/gguf/little.gguf")])
    #expect(status == 0)
    #expect(json["format"] as? String == "gguf")
    #expect(json["architecture"] as? String == "step3")
    let f32 = try #require(try tensors(json)["float32"])
    #expect(f32["shape"] as? [Int] == [2, 3])
    #expect(f32["dtype"] as? String == "F32")
    #expect(
      json["parameters"] as? Int
        == (try tensors(json)).values.reduce(0) { $0 + ($1["elements"] as? Int ?? 0) })
  }

  @Test func listsSplitGGUFFromItsFirstFile() throws {
    let (_, json) = try inspect([Fixtures.path("golden/gguf/split-00001-of-00004.gguf")])
    #expect((json["files"] as? [[String: Any]])?.count == 4)
    #expect((json["tensors"] as? [[String: Any]])?.count == 5)
  }

  @Test func ggufMetadataOfEveryTypeIsPrinted() throws {
    let (_, little) = try inspect(["metadata", Fixtures.path("golden/gguf/little.gguf")])
    let (_, big) = try inspect(["metadata", Fixtures.path("golden/gguf/big.gguf")])
    func entries(_ json: [String: Any]) throws -> [String: Any] {
      let file = try #require((json["files"] as? [[String: Any]])?.first)
      return try #require(file["metadata"] as? [String: Any])
    }
    let values = try entries(little)
    #expect(values.count > 20)
    #expect(try entries(big) as NSDictionary == values as NSDictionary)
  }

  @Test func byteOrderChangesBytesButNotValues() throws {
    let little = Fixtures.path("golden/gguf/little.gguf")
    let big = Fixtures.path("golden/gguf/big.gguf")
    let (status, difference) = try inspect(["diff", little, big])
    #expect(status == 0)
    let summary = try #require(difference["summary"] as? [String: Int])
    #expect(summary["different"] == 0 && summary["notCompared"] == 0)

    let left = try tensors(try inspect(["stats", little]).json)
    let right = try tensors(try inspect(["stats", big]).json)
    #expect(left.count > 5)
    #expect(Set(left.keys) == Set(right.keys))
    var digestsDiffer = 0
    for (name, tensor) in left {
      let other = try #require(right[name])
      for key in ["minimum", "maximum", "mean", "rms", "zeros", "nan", "infinite"] {
        #expect((tensor[key] as? NSObject) == (other[key] as? NSObject), "\(name) \(key)")
      }
      // The digest is of the bytes in the file, which agree only for one-byte types.
      if tensor["xxh3"] as? String != other["xxh3"] as? String { digestsDiffer += 1 }
    }
    #expect(digestsDiffer > 3)
  }

  @Test("a model equals its own GGUF", arguments: ["tiny", "odd"], ["BF16", "F32"])
  func ownGGUF(fixture: String, recipe: String) async throws {
    let directory = try TemporaryDirectory()
    try await convert(fixture, to: .gguf, recipe: recipe, into: directory.path("gguf"))
    let (status, json) = try inspect([
      "diff", Fixtures.path("checkpoints/\(fixture)"), directory.path("gguf"),
    ])
    #expect(status == 0)
    #expect(json["equal"] as? Bool == true)
    #expect(json["onlyInA"] as? [String] == [])
    #expect(json["onlyInB"] as? [String] == [])
    let summary = try #require(json["summary"] as? [String: Int])
    let count = try Checkpoint.open(Fixtures.path("checkpoints/\(fixture)")).tensors.count
    #expect((summary["identical"] ?? 0) + (summary["sameValues"] ?? 0) == count)
  }

  @Test func quantisedGGUFDiffersByRoundingAlone() async throws {
    let directory = try TemporaryDirectory()
    try await convert("tiny", to: .gguf, recipe: "Q8_0", into: directory.path("gguf"))
    let source = Fixtures.path("checkpoints/tiny")
    let (status, json) = try inspect(["diff", source, directory.path("gguf")])
    #expect(status == 1)
    let ranges = try tensors(try inspect(["stats", source]).json)
    let pairs = try #require(json["pairs"] as? [[String: Any]])
    let quantised = pairs.filter { ($0["b"] as? [String: Any])?["dtype"] as? String == "Q8_0" }
    #expect(quantised.count > 20)
    for pair in quantised {
      let name = try #require((pair["a"] as? [String: Any])?["name"] as? String)
      let errors = try #require(pair["errors"] as? [String: Any], "\(name)")
      let range = try #require(ranges[name])
      let largest = max(abs(range["minimum"] as? Double ?? 0), abs(range["maximum"] as? Double ?? 0))
      let error = try #require(errors["maxAbs"] as? Double)
      // Half a step of the largest block, plus what rounding the step to F16 adds at 127 steps.
      #expect(error > 0 && error <= largest / 127 * 0.5 + largest / 1024, "\(name): \(error) of \(largest)")
      #expect((errors["rmse"] as? Double ?? 0) <= error)
    }
    // Nothing else differs: norms and the router are kept.
    let summary = try #require(json["summary"] as? [String: Int])
    #expect(summary["different"] == quantised.count)
    #expect(summary["shape"] == 0 && summary["notCompared"] == 0)
  }

  @Test("block-FP8 is compared with its scales applied", arguments: ["tiny", "odd"])
  func blockFP8(fixture: String) throws {
    let (status, json) = try inspect([
      "diff", Fixtures.path("checkpoints/\(fixture)"), Fixtures.path("checkpoints/\(fixture)-fp8"),
    ])
    #expect(status == 1)
    // Scales are part of the values, not tensors that the other side lacks.
    #expect(json["onlyInA"] as? [String] == [])
    #expect(json["onlyInB"] as? [String] == [])
    let pairs = try #require(json["pairs"] as? [[String: Any]])
    let quantised = pairs.filter { ($0["b"] as? [String: Any])?["dtype"] as? String == "F8_E4M3" }
    #expect(quantised.count > 10)
    let ranges = try tensors(try inspect(["stats", Fixtures.path("checkpoints/\(fixture)")]).json)
    for pair in quantised {
      let name = try #require((pair["a"] as? [String: Any])?["name"] as? String)
      let errors = try #require(pair["errors"] as? [String: Any], "\(name)")
      // E4M3 has three mantissa bits: without the scales errors would be hundreds of times the values.
      let rms = try #require(ranges[name]?["rms"] as? Double)
      #expect((errors["rmse"] as? Double ?? .infinity) < rms * 0.05, "\(name)")
      #expect(pair["note"] as? String == "compared after multiplication by block scales")
    }
  }

  @Test func theTileSizeComesFromTheConfiguration() throws {
    let directory = try TemporaryDirectory()
    func write(_ name: String, _ block: String, scales: [Int]) throws -> String {
      let path = directory.path(name)
      try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
      var file = WeightFile()
      // 4 x 6 ones (E4M3: 0x38); tiles of 2 x 4 need 2 x 2 scales.
      file.add("x.weight", "F8_E4M3", [4, 6], Data(repeating: 0x38, count: 24))
      let values: [Float] = [1, 2, 3, 4]
      file.add(
        "x.weight_scale_inv", "F32", scales, values.prefix(scales.reduce(1, *)).withUnsafeBytes { Data($0) })
      try file.write(to: path + "/model.safetensors")
      try Data("{\"model_type\": \"other\", \"quantization_config\": {\"weight_block_size\": \(block)}}".utf8)
        .write(to: URL(filePath: path + "/config.json"))
      return path
    }
    var plain = WeightFile()
    let row: [[Float]] = [[1, 1, 1, 1, 2, 2], [3, 3, 3, 3, 4, 4]]
    let values = row[0] + row[0] + row[1] + row[1]
    plain.add("x.weight", "F32", [4, 6], values.withUnsafeBytes { Data($0) })
    let reference = directory.path("plain.safetensors")
    try plain.write(to: reference)

    #expect(try inspect(["diff", write("small", "[2, 4]", scales: [2, 2]), reference]).status == 0)
    // When no size is given it is 128 x 128, for which four scales are too many.
    for block in ["null", "[128, 128]", "[2, 0]", "[2]", "\"2x4\""] {
      let path = try write("wrong-\(block.utf8.count)", block, scales: [2, 2])
      let result = try runTool("step3-inspect", ["diff", path, reference])
      #expect(result.status == 65, "\(block)")
      #expect(result.error.contains("weight_block_size"), "\(result.error)")
    }
  }
}
