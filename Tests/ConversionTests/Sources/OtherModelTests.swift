import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Foundation
import QuantizationRecipes
import Safetensors
import ShardPlanning
import TensorFormats
import Testing

/// Unknown models: conversions that need no knowledge of the model work, and others are refused with a clear message.
@Suite struct OtherModelTests {
  private let harness: ConversionHarness
  private let source: String

  init() throws {
    harness = try ConversionHarness()
    source = harness.directory.path("source")
    try FileSystem.createDirectory(source)
  }

  /// Writes a checkpoint of one file; values are small and finite.
  private func write(
    _ tensors: [(String, [Int])], type: ElementType = .bf16, configuration: String,
    metadata: [String: String] = [:], file: String = "model.safetensors"
  ) throws {
    let layout = try SafetensorsLayout(
      tensors.map { SafetensorsLayout.Item(name: $0.0, elementType: type, shape: TensorShape($0.1)) },
      metadata: metadata)
    var generator = SeededGenerator(seed: 5)
    // As BF16 or F32: between 2^-7 and 2.
    let data = (0..<(layout.fileByteCount - layout.headerBytes.count + 7) / 8).flatMap { _ in
      withUnsafeBytes(of: generator.next() & 0x83FF_83FF_83FF_83FF | 0x3C00_3C00_3C00_3C00) { Array($0) }
    }
    try FileSystem.writeAtomically(
      layout.headerBytes + data.prefix(layout.fileByteCount - layout.headerBytes.count),
      to: "\(source)/\(file)")
    try FileSystem.writeAtomically(Array(configuration.utf8), to: "\(source)/config.json")
  }

  private func text(_ name: String = "output/config.json") throws -> String {
    String(decoding: try Data(contentsOf: URL(filePath: harness.directory.path(name))), as: UTF8.self)
  }

  private static let layer: [(String, [Int])] = [
    ("model.embed_tokens.weight", [128, 128]), ("model.layers.0.self_attn.q_proj.weight", [128, 128]),
    ("model.layers.0.mlp.up_proj.weight", [128, 128]), ("model.layers.0.input_layernorm.weight", [128]),
    ("lm_head.weight", [128, 128]),
  ]

  // MARK: Names

  @Test(
    "a model type that begins like Step-3's is another model",
    arguments: ["step3p9", "step3_mini", "step3", "step3_vl_next"])
  func similarNames(name: String) async throws {
    try write(
      Self.layer, configuration: "{\"model_type\": \"\(name)\", \"architectures\": [\"Step3p9ForCausalLM\"]}")
    for arguments in [["plan"], ["convert"]] {
      let output = arguments == ["plan"] ? [] : [harness.directory.path("output")]
      let process = try ConvertProcess(arguments + [source] + output + ["--to", "safetensors"])
      let result = process.finish()
      #expect(result.status == 0, "\(result.error)")
    }
    let refused = try ConvertProcess([
      "plan", source, "--to", "safetensors", "--for-engine", "vllm",
    ]).finish()
    #expect(refused.status == 64)
    #expect(refused.error.contains("known only for the Step family") && refused.error.contains(name))
  }

  // MARK: Recipes

  @Test(
    "a recipe for experts is refused with the reason and a remedy",
    arguments: ["W4A16", "NVFP4A16", "FP8_DYNAMIC", "MXFP4", "W8A8_INT8"])
  func recipesOfExperts(recipe: String) throws {
    try write(Self.layer, configuration: "{\"model_type\": \"qwen2\"}")
    let error = #expect(throws: CheckpointError.self) { try harness.plan(source, .init(recipe: recipe)) }
    #expect(error?.code == .invalidRequest)
    #expect(error?.message == "\(recipe) quantises the routed experts of a Step-3; this model is qwen2")
    #expect(error?.remedy?.contains("--scope linear") == (recipe != "MXFP4"))
  }

  @Test(
    "linear layers are recognised by shape and name",
    arguments: ["FP8_BLOCK", "FP8_DYNAMIC", "W4A16", "NVFP4A16"])
  func linearLayers(recipe: String) async throws {
    let linear = [
      "transformer.h.0.attn.query_key_value.weight", "transformer.h.0.mlp.dense_h_to_4h.weight",
      "layers.0.fc1.weight",
      "encoder.block.0.wo.weight", "model.layers.0.mlp.experts.0.w1.weight",
    ]
    let others = [
      "transformer.wte.weight", "embed_out.weight", "lm_head.weight", "score.weight",
      "transformer.h.0.ln_1.weight",
      "model.layers.0.mlp.gate.weight", "model.layers.0.mlp.shared_expert_gate.weight",
      "layers.0.conv1.weight",
    ]
    let tensors = (linear + others).map { name in
      (name, name.contains("ln_1") ? [128] : name.contains("conv1") ? [128, 128, 3] : [128, 128])
    }
    try write(tensors, configuration: "{\"model_type\": \"other\"}")
    let scope: SchemeRecipe.Scope? = recipe == "FP8_BLOCK" ? nil : .linear
    try await harness.convert(source, .init(recipe: recipe, scope: scope))
    let output = try Checkpoint.open(harness.directory.path("output"))
    let names = Set(output.tensors.map(\.name))
    for name in others { #expect(output[name]?.elementType == .bf16, "\(name)") }
    for name in linear {
      let isPlain = output[name]?.elementType == .bf16
      #expect(!isPlain, "\(name)")
      #expect(names.contains { $0.hasPrefix(name) && $0.contains("scale") }, "\(name)")
    }
  }

  // MARK: Types in the configuration

  @Test("torch_dtype and dtype follow the weights", arguments: ["torch_dtype", "dtype"])
  func types(key: String) async throws {
    try write(
      Self.layer, type: .f32,
      configuration: """
        {"model_type": "other", "\(key)": "float32", "limit": [0.0, Infinity], "text_config": {"\(key)": "float32",
         "nan": NaN}}
        """)
    let plan = try harness.plan(source, .init(recipe: "BF16")).plan
    #expect(plan.amendments.map(\.key) == [key, "text_config.\(key)"])
    try await harness.convert(source, .init(recipe: "BF16"))
    let text = try text()
    #expect(!text.contains("float32"))
    #expect(text.components(separatedBy: "bfloat16").count == 3)
    // The rest keeps its spelling.
    #expect(text.contains("[0.0, Infinity]") && text.contains("\"nan\": NaN"))
    // Nothing is amended where nothing changed.
    #expect(try harness.plan(source, .init(recipe: "keep")).plan.amendments.isEmpty)
  }

  // MARK: __metadata__

  @Test func metadataIsCarriedOver() async throws {
    try write(
      [("a", [4])], configuration: "{}", metadata: ["format": "pt", "license": "mit", "step": "5"],
      file: "x-1.safetensors")
    try write(
      [("b", [4])], configuration: "{}",
      metadata: ["format": "pt", "license": "mit", "step": "6", "seed": "1"],
      file: "x-2.safetensors")
    let plan = try harness.plan(source, .init()).plan
    #expect(plan.omissions.map(\.what) == ["__metadata__.step"])
    try await harness.convert(source, .init())
    let output = try Checkpoint.open(harness.directory.path("output"))
    #expect(output.files.map(\.safetensorsMetadata) == [["format": "pt", "license": "mit", "seed": "1"]])
  }
}

/// Step-3 configurations as found in practice, converted.
@Suite struct FoundConfigurationConversionTests {
  private let harness: ConversionHarness
  private let source: String

  init() throws {
    harness = try ConversionHarness()
    source = harness.directory.path("source")
    try FileManager.default.copyItem(atPath: Fixtures.path("checkpoints/tiny"), toPath: source)
  }

  /// Changes the text of `config.json`.
  private func edit(_ change: (String) -> String) throws {
    let path = "\(source)/config.json"
    let old = String(decoding: try Data(contentsOf: URL(filePath: path)), as: UTF8.self)
    let new = change(old)
    try #require(new != old)
    try? FileManager.default.removeItem(atPath: path)
    try FileSystem.writeAtomically(Array(new.utf8), to: path)
  }

  @Test(
    "a byte order mark and NaN do not keep a Step-3 from being recognised",
    arguments: [Checkpoint.Format.gguf, .safetensors])
  func markAndConstants(format: Checkpoint.Format) async throws {
    try edit {
      "\u{FEFF}"
        + $0.replacing(
          "{\n", with: "{\n  \"router_aux_loss\": NaN, \"quantization_config\": null,\n", maxReplacements: 1)
    }
    let plan = try harness.plan(source, .init(format: format, recipe: "BF16")).plan
    #expect(plan.amendments.contains { $0.reason.contains("byte order mark") })
    // A copy keeps it as it is.
    let copy = try harness.plan(source, .init(recipe: "keep")).plan
    #expect(copy.amendments.isEmpty)
    #expect(
      copy.parts[0].documents.first { $0.path == "config.json" }?.text
        == String(decoding: try Data(contentsOf: URL(filePath: "\(source)/config.json")), as: UTF8.self))
    try await harness.convert(source, .init(format: format, recipe: "BF16"))
    let output = try Data(contentsOf: URL(filePath: harness.directory.path("output/config.json")))
    #expect(output.first == UInt8(ascii: "{"))
    #expect(String(decoding: output, as: UTF8.self).contains("\"router_aux_loss\": NaN"))
    #expect(try Checkpoint.open(harness.directory.path("output")).configurationDocument?.fault == nil)
  }

  @Test("a flat configuration with text_config null is converted") func nullTextConfiguration() async throws {
    let path = "\(source)/config.json"
    let bytes = try Data(contentsOf: URL(filePath: path))
    let object = try #require(JSONSerialization.jsonObject(with: bytes) as? [String: Any])
    var flat = try #require(object["text_config"] as? [String: Any])
    flat["text_config"] = NSNull()
    flat["quantization_config"] = NSNull()
    flat["moe_layers_enum"] = [1, 2]
    flat["vision_config"] = object["vision_config"]
    try? FileManager.default.removeItem(atPath: path)
    try JSONSerialization.data(withJSONObject: flat).write(to: URL(filePath: path))
    for recipe in ["BF16", "FP8_BLOCK"] {
      let plan = try harness.plan(source, .init(recipe: recipe)).plan
      #expect(plan.amendments.map(\.key) == ["moe_layers_enum"], "\(recipe)")
      try await harness.convert(source, .init(recipe: recipe), into: recipe)
      let output = try Data(contentsOf: URL(filePath: harness.directory.path("\(recipe)/config.json")))
      let written = try #require(JSONSerialization.jsonObject(with: output) as? [String: Any])
      #expect(written["text_config"] is NSNull)
      #expect((written["quantization_config"] is [String: Any]) == (recipe == "FP8_BLOCK"))
    }
  }

  @Test("a setting that changes the arithmetic is refused for GGUF, not dropped") func unreadSettings() throws
  {
    try edit {
      $0.replacing("\"rope_scaling\": null", with: "\"rope_scaling\": null, \"sliding_window\": 512")
    }
    let error = #expect(throws: CheckpointError.self) {
      try harness.plan(source, .init(format: .gguf, recipe: "keep"))
    }
    #expect(error?.path == "\(source)/config.json")
    #expect(error?.message.contains("sliding_window is 512") == true)
    // Safetensors outputs carry the configuration itself.
    #expect(throws: Never.self) { try harness.plan(source, .init(recipe: "keep")) }
  }

  @Test func unreadableConfigurationsAreRefused() throws {
    try edit { _ in "Entry not found" }
    for format in [Checkpoint.Format.gguf, .safetensors] {
      let error = #expect(throws: CheckpointError.self) {
        try harness.plan(source, .init(format: format, recipe: "keep"))
      }
      #expect(error?.path == "\(source)/config.json")
      #expect(error?.message.contains("Entry not found") == true)
    }
  }
}
