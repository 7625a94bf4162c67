internal import CheckpointTesting
internal import Foundation
internal import GGUF
internal import Step3Model
internal import TensorFormats
internal import Testing
internal import Tokenization

@Suite struct UntrustedInputTests {
  private func tiny() throws -> String {
    String(
      decoding: try Data(contentsOf: URL(fileURLWithPath: Fixtures.path("checkpoints/tiny/config.json"))),
      as: UTF8.self)
  }

  @Test(arguments: [
    ("\"rope_theta\": 500000.0", "\"rope_theta\": 1e999", "too large"),
    ("\"rope_theta\": 500000.0", "\"rope_theta\": 1e300", "rope_theta"),
    ("\"rope_theta\": 500000.0", "\"rope_theta\": NaN", "rope_theta"),
    ("\"rope_theta\": 500000.0", "\"rope_theta\": -Infinity", "rope_theta"),
    ("\"rope_theta\": 500000.0", "\"rope_theta\": infinity", "JSON"),
    ("\"head_dim\": 64", "\"head_dim\": Infinity", "head_dim"),
    ("\"rope_theta\": 500000.0", "\"rope_theta\": 1e-300", "rope_theta"),
    ("\"rope_theta\": 500000.0", "\"rope_theta\": 0", "rope_theta"),
    ("\"head_dim\": 64", "\"head_dim\": 63", "head_dim"),
    ("\"head_dim\": 64", "\"head_dim\": 64.5", "head_dim"),
    ("\"head_dim\": 64", "\"head_dim\": 99999999999999999999", "head_dim"),
    ("\"head_dim\": 64", "\"head_dim\": 64, \"head_dim\": 32", "twice"),
    ("\"1,2\"", "\"1,1\"", "moe_layers_enum"),
    ("\"1,2\"", "\"1,x\"", "moe_layers_enum"),
    ("\"patch_size\": 14", "\"patch_size\": 15", "image_size"),
    ("\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"ntk\", \"factor\": 2}", "rope_type"),
    ("\"rope_scaling\": null", "\"rope_scaling\": {\"rope_type\": \"yarn\"}", "factor"),
    ("\"eos_token_id\": 1", "\"eos_token_id\": [1, 512]", "eos_token_id"),
    ("\"step3_vl\",", "\"step3_vl\"", "JSON"),
  ])
  func configurationNamesWhatIsWrong(old: String, new: String, part: String) throws {
    let source = try tiny()
    let changed = source.replacingOccurrences(of: old, with: new)
    #expect(changed != source)
    let error = #expect(throws: CheckpointError.self) {
      try Step3Configuration(configJSON: Array(changed.utf8))
    }
    #expect(error?.message.contains(part) == true, "\(error.map { "\($0)" } ?? "")")
  }

  @Test func deepAndLongDocumentsAreRefused() {
    for bracket in ["[", "{\"a\":"] {
      let deep = Array(String(repeating: bracket, count: 10_000).utf8)
      let error = #expect(throws: CheckpointError.self) { try Step3Configuration(configJSON: deep) }
      #expect(error?.message.contains("nested") == true)
      #expect(Step3Configuration.family(configJSON: deep) == nil)
      let tokenizer = Array("{\"x\":".utf8) + deep
      #expect(throws: CheckpointError.self) {
        try Step3Tokenizer(tokenizerJSON: tokenizer, configuration: .published, preTokenizer: "deepseek-v3")
      }
    }
    let long = [UInt8](repeating: 0x20, count: 200_000_000)
    #expect(throws: CheckpointError.self) { try Step3Configuration(configJSON: long) }
    #expect(throws: CheckpointError.self) {
      try Step3Tokenizer(tokenizerJSON: long, configuration: .published, preTokenizer: "deepseek-v3")
    }
  }

  /// Every dimension as large as the reader accepts: the sizes overflow 64 bits.
  @Test func overflowingSizesAreRefused() throws {
    var model = Step3Configuration.published
    model.text.hiddenSize = 1_048_576
    model.text.expertIntermediateSize = 1_048_576
    model.text.expertCount = 65_536
    model.text.layerCount = 10_000
    model.text.moeLayers = Array(0..<10_000)
    let read = try Step3Configuration(configJSON: model.configJSON())
    let error = #expect(throws: CheckpointError.self) { try Step3Inventory(read) }
    #expect(error?.message.contains("2^63") == true)
    for path in [
      \Step3Configuration.text.headCount, \.text.layerCount, \.text.vocabularySize, \.text.hiddenSize,
    ] {
      for value in [0, -1, Int.max, Int.min] {
        var broken = Step3Configuration.published
        broken[keyPath: path] = value
        #expect(throws: CheckpointError.self) { try Step3Inventory(broken) }
      }
    }
    var tiles = Step3Configuration.published
    tiles.quantization = Step3Configuration.Quantization(method: "fp8", blockSize: [0, 128])
    #expect(throws: CheckpointError.self) { try Step3Inventory(tiles) }
  }

  @Test(arguments: [
    ("step3.attention.key_length", GGUFValue.uint32(255)),
    ("step3.attention.value_length", .uint32(128)),
    ("step3.rope.dimension_count", .uint32(64)),
    ("step3.expert_gating_func", .uint32(2)),
    ("step3.expert_shared_count", .uint32(2)),
    ("step3.expert_weights_norm", .uint32(1)),
    ("step3.moe_layers", .array(.uint32([4, 4]))),
    ("step3.moe_layers", .array(.int32([-1]))),
    ("step3.moe_layers", .array(.uint32([61]))),
    ("step3.moe_layers", .string("4,5")),
    ("step3.rope.freq_base", .float32(.infinity)),
    ("step3.rope.freq_base", .float32(.nan)),
    ("step3.rope.freq_base", .float64(1e300)),
    ("step3.rope.scaling.type", .string("ntk")),
    ("step3.embedding_length", .uint64(.max)),
    ("step3.block_count", .int32(-1)),
    ("step3.vocab_size", .string("many")),
    ("tokenizer.ggml.bos_token_id", .uint32(128_815)),
    ("tokenizer.ggml.eot_token_id", .uint32(128_815)),
  ])
  func textMetadataNamesWhatIsWrong(key: String, value: GGUFValue) throws {
    var metadata = Step3Configuration.published.ggufMetadata(name: "x", fileType: nil)
    _ = try Step3Configuration(ggufMetadata: metadata)
    metadata.set(key, value)
    let error = #expect(throws: CheckpointError.self) { try Step3Configuration(ggufMetadata: metadata) }
    #expect(error?.message.hasPrefix(key) == true, "\(error.map { "\($0)" } ?? "")")
  }

  @Test(arguments: [
    ("clip.vision.image_size", GGUFValue.uint32(729)),
    ("clip.vision.attention.head_count", .uint32(15)),
    ("clip.vision.attention.head_count", .uint32(0)),
    ("clip.vision.projector.stride", .uint32(2000)),
    ("clip.vision.projector.bias", .uint32(1)),
    ("clip.vision.projector.image_token_id", .int32(-1)),
    ("clip.projector_type", .string("mlp")),
  ])
  func visionMetadataNamesWhatIsWrong(key: String, value: GGUFValue) throws {
    var metadata = try #require(Step3Configuration.published.visionGGUFMetadata(name: "x", fileType: nil))
    _ = try Step3Configuration.Vision(ggufMetadata: metadata)
    metadata.set(key, value)
    let error = #expect(throws: CheckpointError.self) {
      try Step3Configuration.Vision(ggufMetadata: metadata)
    }
    #expect(error?.message.hasPrefix(key) == true, "\(error.map { "\($0)" } ?? "")")
  }
}
