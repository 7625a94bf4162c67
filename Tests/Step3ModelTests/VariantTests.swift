internal import Checkpoint
internal import CheckpointTesting
internal import Foundation
internal import Step3Model
internal import TensorFormats
internal import Testing

/// The ways in which published and derived configurations differ.
@Suite struct VariantTests {
  private func tiny() throws -> [String: Any] {
    let data = try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("checkpoints/tiny/config.json")))
    return try #require(JSONSerialization.jsonObject(with: data) as? [String: Any])
  }

  private func configuration(_ object: [String: Any]) throws -> Step3Configuration {
    try Step3Configuration(configJSON: Array(JSONSerialization.data(withJSONObject: object)))
  }

  private func withText(_ key: String, _ value: Any?) throws -> Step3Configuration {
    try withText([key: value])
  }

  /// The tiny model's configuration with keys changed, or left out where the value is `nil`.
  private func withText(_ changes: [String: Any?]) throws -> Step3Configuration {
    var object = try tiny()
    var text = try #require(object["text_config"] as? [String: Any])
    for (key, value) in changes { text[key] = value }
    object["text_config"] = text
    return try configuration(object)
  }

  @Test func ropeScalingIsRead() throws {
    typealias Scaling = Step3Configuration.RopeScaling
    let cases: [([String: Any], Scaling)] = [
      (["rope_type": "linear", "factor": 4], Scaling(kind: .linear, factor: 4)),
      (["type": "linear", "factor": 2.5], Scaling(kind: .linear, factor: 2.5)),
      (
        [
          "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 4096, "beta_fast": 32,
          "beta_slow": 1, "mscale": 0.707,
        ],
        Scaling(
          kind: .yarn, factor: 8, originalContextLength: 4096,
          parameters: ["beta_fast": 32, "beta_slow": 1, "mscale": 0.707])
      ),
      (
        [
          "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192,
          "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        ],
        Scaling(
          kind: .llama3, factor: 8, originalContextLength: 8192,
          parameters: ["low_freq_factor": 1, "high_freq_factor": 4])
      ),
    ]
    for (json, expected) in cases {
      let read = try withText("rope_scaling", json)
      #expect(read.text.ropeScaling == expected)
      #expect(try Step3Configuration(configJSON: read.configJSON()) == read)
      let gguf = try Step3Configuration(ggufMetadata: read.ggufMetadata(name: "x", fileType: nil))
      #expect(gguf.text == read.text)
    }
    #expect(try withText("rope_scaling", ["rope_type": "default"]).text.ropeScaling == nil)
  }

  @Test("rope_parameters is read, and the base inside either spelling") func ropeParameters() throws {
    func text(_ changes: [String: Any?]) throws -> Step3Configuration.Text {
      try withText(changes).text
    }
    let yarn: [String: Any] = ["rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4096]
    let expected = Step3Configuration.RopeScaling(kind: .yarn, factor: 2, originalContextLength: 4096)
    let own = yarn.merging(["rope_theta": 10_000.0]) { $1 }
    let newName = try text(["rope_scaling": nil, "rope_theta": nil, "rope_parameters": own])
    #expect(newName.ropeScaling == expected)
    #expect(newName.ropeTheta == 10_000)
    // The base inside wins over the one beside it, under both names.
    #expect(try text(["rope_scaling": own]).ropeTheta == 10_000)
    #expect(try text(["rope_scaling": yarn]).ropeTheta == 500_000)
    #expect(try text(["rope_scaling": nil, "rope_parameters": yarn]).ropeTheta == 500_000)
    for parameters: [String: Any] in [["rope_type": "default", "rope_theta": 7.5], ["rope_theta": 7.5]] {
      let plain = try text(["rope_scaling": nil, "rope_parameters": parameters])
      #expect(plain.ropeScaling == nil)
      #expect(plain.ropeTheta == 7.5)
    }
    // The older name wins where both have a value.
    let both = try text(["rope_scaling": ["type": "linear", "factor": 3], "rope_parameters": own])
    #expect(both.ropeScaling == .init(kind: .linear, factor: 3))
    #expect(both.ropeTheta == 500_000)
    #expect(try text(["rope_scaling": [String: Any](), "rope_parameters": own]).ropeScaling == expected)
    let error = #expect(throws: CheckpointError.self) {
      try text(["rope_scaling": nil, "rope_parameters": ["rope_theta": -1]])
    }
    #expect(error?.message.contains("text_config.rope_parameters.rope_theta") == true)
  }

  @Test func moeLayersAreReadInEverySpelling() throws {
    #expect(try withText("moe_layers_enum", "1,2").text.moeLayers == [1, 2])
    #expect(try withText("moe_layers_enum", " 2, 1 ").text.moeLayers == [1, 2])
    #expect(try withText("moe_layers_enum", [3, 0]).text.moeLayers == [0, 3])
    #expect(try withText("moe_layers_enum", nil).text.moeLayers == [1, 2, 3])
    #expect(try withText("moe_layers_enum", "").text.moeLayers == [])
    let text = try withText("moe_layers_enum", [3, 0]).text
    #expect((0..<4).filter { text.isMoE(layer: $0) } == [0, 3])
  }

  @Test func aFlatConfigurationEqualsTheNestedOne() throws {
    let nested = try configuration(tiny())
    var flat = try #require(try tiny()["text_config"] as? [String: Any])
    for key in ["bos_token_id", "eos_token_id", "pad_token_id"] { flat[key] = try tiny()[key] }
    let read = try configuration(flat)
    #expect(read.text == nested.text)
    #expect(read.vision == nil)
    #expect(read.eosTokenIDs == nested.eosTokenIDs && read.bosTokenID == 0 && read.padTokenID == 2)
    #expect(try Step3Configuration(configJSON: read.configJSON()) == read)
    #expect(Step3Configuration.family(configJSON: try read.configJSON()) == .step3)
    let several = try configuration(flat.merging(["eos_token_id": [1, 7]]) { _, new in new })
    #expect(several.eosTokenIDs == [1, 7])
    #expect(try Step3Configuration(configJSON: several.configJSON()) == several)
    let gguf = try Step3Configuration(
      ggufMetadata: several.ggufMetadata(name: "x", fileType: nil))
    #expect(gguf.text == several.text)
  }

  @Test(arguments: ["tiny", "odd", "tiny-fp8", "odd-fp8"])
  func theInventoryMatchesTheFiles(preset: String) throws {
    let checkpoint = try Checkpoint.open(Fixtures.path("checkpoints/\(preset)"))
    let inventory = try Step3Inventory(Step3Configuration(configJSON: #require(checkpoint.configuration)))
    #expect(inventory.issues(with: checkpoint.tensors.map { (name: $0.name, shape: $0.shape) }) == [])
    #expect(inventory.tensors.count == checkpoint.tensors.count)
    let types = Dictionary(uniqueKeysWithValues: checkpoint.tensors.map { ($0.name, $0.elementType) })
    for tensor in inventory.tensors {
      #expect(types[tensor.publishedName] == tensor.elementType, "\(tensor.name)")
    }
  }
}
