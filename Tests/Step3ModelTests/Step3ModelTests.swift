internal import Checkpoint
internal import CheckpointTesting
internal import Foundation
internal import GGUF
internal import Step3Model
internal import TensorFormats
internal import Testing
internal import Tokenization

private func bytes(_ path: String) throws -> [UInt8] {
  Array(try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("checkpoints/\(path)"))))
}

@Suite struct ConfigurationTests {
  @Test(arguments: ["tiny", "odd", "tiny-fp8", "odd-fp8"])
  func configurationsRoundTrip(preset: String) throws {
    let configuration = try Step3Configuration(configJSON: bytes("\(preset)/config.json"))
    #expect(try Step3Configuration(configJSON: configuration.configJSON()) == configuration)
    var text = configuration
    text.quantization = nil
    text.vision = nil
    let tokenizer = try Step3Tokenizer(
      tokenizerJSON: bytes("\(preset)/tokenizer.json"),
      tokenizerConfigJSON: bytes("\(preset)/tokenizer_config.json"), configuration: configuration,
      preTokenizer: Step3Tokenizer.deepSeekV3)
    var metadata = configuration.ggufMetadata(name: "x", fileType: 1)
    tokenizer.write(to: &metadata)
    #expect(try Step3Configuration(ggufMetadata: metadata) == text)
    #expect(try Step3Tokenizer(metadata: metadata) == tokenizer)
    let vision = try #require(configuration.visionGGUFMetadata(name: "x", fileType: 1))
    #expect(try Step3Configuration.Vision(ggufMetadata: vision) == configuration.vision)
  }

  @Test func readsDimensions() throws {
    let odd = try Step3Configuration(configJSON: bytes("odd/config.json"))
    #expect(odd.text.moeLayers == [0, 2])
    #expect(odd.text.headDimension == 48)
    #expect(odd.vision?.projectorBias == true)
    #expect(try Step3Configuration(configJSON: bytes("odd-fp8/config.json")).quantization == .blockFP8)
  }

  @Test func errorsNameTheKey() throws {
    let source = String(decoding: try bytes("tiny/config.json"), as: UTF8.self)
    for (old, new, key) in [
      ("\"1,2\"", "\"1,4\"", "moe_layers_enum"),
      ("\"share_q_dim\": 256", "\"share_q_dim\": -1", "share_q_dim"),
      ("\"moe_top_k\": 3", "\"moe_top_k\": 9", "moe_top_k"),
    ] {
      let error = #expect(throws: CheckpointError.self) {
        try Step3Configuration(configJSON: Array(source.replacingOccurrences(of: old, with: new).utf8))
      }
      #expect(error?.message.contains(key) == true)
    }
  }
}

@Suite struct InventoryTests {
  @Test func sizesAreThePublishedOnes() throws {
    let inventory = try Step3Inventory(.published)
    #expect(inventory.tensors.count == 1663)
    #expect(inventory.parameterCount == 320_969_912_832)
    var parts: [TensorRole: Int] = [:]
    for tensor in inventory.tensors { parts[tensor.role, default: 0] += tensor.shape.elementCount }
    let interNorms = 61 * 2048
    #expect(parts[.embedding] == 923_345_920)
    #expect(parts[.lmHead] == 923_345_920)
    #expect(parts[.attention] == 10_330_046_464 + interNorms)
    #expect(parts[.denseFFN] == 1_981_808_640)
    #expect(parts[.routedExperts] == 295_950_090_240)
    #expect(parts[.sharedExpert] == 6_165_626_880)
    #expect(parts[.router] == 19_267_584)
    #expect(parts[.norm] == 1_006_592 - interNorms)
    #expect(parts[.vision, default: 0] + parts[.projector, default: 0] == 4_675_374_592)
    var biased = Step3Configuration.published
    biased.vision?.projectorBias = true
    #expect(try Step3Inventory(biased).parameterCount == 320_969_912_832 + 7168)
    var fp8 = Step3Configuration.published
    fp8.quantization = .blockFP8
    // 327.6 GB, to the published digit.
    #expect(abs(try Step3Inventory(fp8).byteCount - 327_600_000_000) <= 50_000_000)
  }

  @Test func namesAreABijection() throws {
    var gguf: Set<String> = []
    let model = ModelDescription.step3
    for tensor in try Step3Inventory(.published).tensors {
      #expect(model.tensor(published: tensor.publishedName) == tensor.name)
      let name = try #require(tensor.ggufName)
      #expect(model.tensor(gguf: name) == tensor.name)
      #expect(gguf.insert(name).inserted)
    }
  }

  @Test(arguments: ["tiny", "odd", "tiny-fp8", "odd-fp8"])
  func theInventoryMatchesTheIndex(preset: String) throws {
    struct Index: Decodable { let weight_map: [String: String] }
    let index = try JSONDecoder().decode(
      Index.self, from: Data(bytes("\(preset)/model.safetensors.index.json")))
    let inventory = try Step3Inventory(Step3Configuration(configJSON: bytes("\(preset)/config.json")))
    #expect(Set(inventory.tensors.map(\.publishedName)) == Set(index.weight_map.keys))
  }

  @Test func differencesFromTheInventoryAreListed() throws {
    let inventory = try Step3Inventory(Step3Configuration(configJSON: bytes("tiny/config.json")))
    var found = inventory.tensors.map { (name: $0.publishedName, shape: $0.shape) }
    #expect(inventory.issues(with: found).isEmpty)
    let gone = found.removeFirst()
    found[0].shape = TensorShape([1])
    found.append((name: "x", shape: TensorShape([2])))
    let issues = inventory.issues(with: found)
    #expect(issues.count == 3)
    #expect(issues.first == .missing(name: gone.name, expected: gone.shape))
  }
}

@Suite struct PlacementTests {
  @Test func modulesHaveTheirSides() throws {
    let model = ModelDescription.step3
    var sizes: [PartRole: Int] = [:]
    for tensor in try Step3Inventory(.published).tensors {
      sizes[model.side(of: tensor.name, router: .attention), default: 0] += tensor.shape.elementCount
    }
    #expect(sizes[.ffn] == 304_097_525_760)
    #expect(sizes[.attention] == 12_197_012_480)
    #expect(model.side(of: Step3TensorName(.router, layer: 4), router: .ffn) == .ffn)
    #expect(model[.expertDown]?.tensorParallelAxis == 2)
    #expect(model[.expertGate]?.tensorParallelAxis == 1)
  }

  @Test func scalesAreMappedToTheirWeights() throws {
    let model = ModelDescription.step3
    let name = try #require(model.tensor(published: "model.layers.4.moe.gate_proj.weight_scale_inv"))
    #expect(model.role(of: name) == .scale)
    #expect(model.published(name.weight) == "model.layers.4.moe.gate_proj.weight")
    #expect(model.tensor(published: "model.layers.04.moe.gate.weight") == nil)
    #expect(TensorDescription(name: "model.layers.7.mlp.experts.3.up_proj.weight").role == .routedExperts)
    #expect(TensorDescription(name: "model.layers.7.mlp.experts.3.up_proj.weight").layer == 7)
  }
}
