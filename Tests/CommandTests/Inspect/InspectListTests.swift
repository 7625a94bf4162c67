import CheckpointTesting
import Foundation
import Testing

/// `step3-inspect list`, against sums computed here from the fixtures' headers.
@Suite("step3-inspect list") struct InspectListTests {
  /// A tensor as the header of a safetensors file states it.
  struct HeaderTensor {
    let name: String
    let dtype: String
    let shape: [Int]
    let bytes: Int
  }

  /// All tensors of a fixture, read without any code of the product.
  static func headerTensors(_ fixture: String) throws -> [HeaderTensor] {
    let directory = URL(filePath: Fixtures.path("checkpoints/\(fixture)"))
    var tensors: [HeaderTensor] = []
    for name in try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted()
    where name.hasSuffix(".safetensors") {
      let data = try Data(contentsOf: directory.appending(path: name))
      let length = data.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << ($1.offset * 8) }
      let header = try #require(
        try JSONSerialization.jsonObject(with: data.dropFirst(8).prefix(length)) as? [String: Any])
      for (name, value) in header where name != "__metadata__" {
        let entry = try #require(value as? [String: Any])
        let offsets = try #require(entry["data_offsets"] as? [Int])
        tensors.append(
          HeaderTensor(
            name: name, dtype: try #require(entry["dtype"] as? String),
            shape: try #require(entry["shape"] as? [Int]), bytes: offsets[1] - offsets[0]))
      }
    }
    return tensors
  }

  /// The role of a published Step-3 name, from the model description's table.
  static func role(_ name: String) -> String {
    if name.hasSuffix("_scale_inv") { return "scale" }
    if name.hasPrefix("vision_model.") || name.hasPrefix("vit_downsampler") { return "vision" }
    if name.hasPrefix("vit_large_projector") { return "projector" }
    if name.hasPrefix("lm_head") { return "lm_head" }
    if name.contains("embed_tokens") { return "embedding" }
    if name.contains(".self_attn.") { return "attention" }
    if name.contains(".moe.gate.") { return "router" }
    if name.contains(".moe.") { return "routed_experts" }
    if name.contains(".share_expert.") { return "shared_expert" }
    if name.contains(".mlp.") { return "dense_ffn" }
    return "norm"
  }

  @Test("parameters and bytes are counted per role", arguments: ["tiny", "odd", "tiny-fp8", "odd-fp8"])
  func totals(fixture: String) throws {
    let result = try runTool("step3-inspect", [Fixtures.path("checkpoints/\(fixture)"), "--json"])
    #expect(result.status == 0)
    #expect(result.error.isEmpty)
    let json = try result.json()
    let tensors = try Self.headerTensors(fixture)
    let weights = tensors.filter { Self.role($0.name) != "scale" }
    #expect(json["parameters"] as? Int == weights.reduce(0) { $0 + $1.shape.reduce(1, *) })
    #expect(json["bytes"] as? Int == tensors.reduce(0) { $0 + $1.bytes })
    #expect(json["architecture"] as? String == "step3_vl")
    #expect(json["format"] as? String == "safetensors")
    let roles = try #require(json["roles"] as? [String: [String: Int]])
    let groups = Dictionary(grouping: tensors) { Self.role($0.name) }
    #expect(Set(roles.keys) == Set(groups.keys))
    for (role, members) in groups {
      let parameters = role == "scale" ? 0 : members.reduce(0) { $0 + $1.shape.reduce(1, *) }
      #expect(
        roles[role] == [
          "tensors": members.count, "parameters": parameters, "bytes": members.reduce(0) { $0 + $1.bytes },
        ], "\(role)")
    }
  }

  @Test func totalsOfTinyAreThoseWorkedOutByHand() throws {
    // 512 x 256 twice; the rest worked out by hand from the fixture's configuration.
    let json = try runTool("step3-inspect", ["list", Fixtures.path("checkpoints/tiny"), "--json"]).json()
    let roles = try #require(json["roles"] as? [String: [String: Int]])
    #expect(roles["embedding"]?["parameters"] == 131_072)
    #expect(roles["routed_experts"]?["parameters"] == 2 * 3 * 8 * 256 * 256)
    #expect(roles["dense_ffn"]?["parameters"] == 2 * 3 * 512 * 256)
    #expect(roles["router"]?["parameters"] == 2 * 8 * 256)
    #expect(roles["attention"]?["parameters"] == 4 * (3 * 256 * 256 + 2 * 64 * 256 + 256))
    #expect(roles["norm"]?["parameters"] == (4 * 2 + 1) * 256)
  }

  @Test func tensorsHaveTheDocumentedKeys() throws {
    let path = Fixtures.path("checkpoints/tiny")
    let json = try runTool("step3-inspect", [path, "--filter", #"layers\.1\.moe\.gate\."#, "--json"]).json()
    #expect(
      Set(json.keys) == [
        "schema", "format", "path", "architecture", "files", "parameters", "bytes", "metadata", "roles",
        "tensors",
      ])
    let tensors = try #require(json["tensors"] as? [[String: Any]])
    let tensor = try #require(tensors.first)
    #expect(tensors.count == 1)
    #expect(tensor["name"] as? String == "model.layers.1.moe.gate.weight")
    #expect(tensor["dtype"] as? String == "BF16")
    #expect(tensor["shape"] as? [Int] == [8, 256])
    #expect(tensor["elements"] as? Int == 2048)
    #expect(tensor["bytes"] as? Int == 4096)
    #expect(tensor["role"] as? String == "router")
    #expect(tensor["layer"] as? Int == 1)
    // The offset is absolute. That the bytes there are the tensor's is shown by digests elsewhere; here it is recomputed from the header.
    let file = try #require(tensor["file"] as? String)
    let data = try Data(contentsOf: URL(filePath: "\(path)/\(file)"))
    let length = data.prefix(8).enumerated().reduce(0) { $0 | Int($1.element) << ($1.offset * 8) }
    let header = try #require(
      try JSONSerialization.jsonObject(with: data.dropFirst(8).prefix(length)) as? [String: Any])
    let entry = try #require(header["model.layers.1.moe.gate.weight"] as? [String: Any])
    #expect(tensor["offset"] as? Int == 8 + length + (try #require(entry["data_offsets"] as? [Int]))[0])
  }

  @Test func sortsBySizeAndByNumbersInNames() throws {
    let path = Fixtures.path("checkpoints/tiny")
    func names(_ order: String) throws -> ([String], [Int]) {
      let json = try runTool("step3-inspect", [path, "--sort", order, "--json"]).json()
      let tensors = try #require(json["tensors"] as? [[String: Any]])
      return (tensors.compactMap { $0["name"] as? String }, tensors.compactMap { $0["bytes"] as? Int })
    }
    let sizes = try names("size").1
    #expect(sizes == sizes.sorted(by: >))
    #expect(sizes.count == 88)
    let sorted = try names("name").0
    #expect(sorted == sorted.sorted { $0.compare($1, options: .numeric) == .orderedAscending })
  }

  @Test func tablesFitTheTerminal() throws {
    let result = try runTool(
      "step3-inspect", [Fixtures.path("checkpoints/tiny"), "--filter", "moe.gate_proj", "--color", "never"])
    // Standard output is a pipe: nothing is truncated or coloured.
    #expect(
      result.output.contains("model.layers.1.moe.gate_proj.weight  BF16  8×256×256  1.05 MB  routed_experts"))
    #expect(!result.output.contains("\u{1B}"))
    #expect(result.output.contains("parameters    1,048,576 in 2.10 MB"))
  }
}
