import PlanTesting
import Checkpoint
import CheckpointTesting
import Foundation
import Quantization
import QuantizationRecipes
import ShardPlanning
import TensorFormats
import Testing

/// Names, types, shapes and configuration of the schemes, as the loaders of vLLM 0.33 and SGLang 0.5.23 expect them.
@Suite struct SchemeLayoutTests {
  private let harness: PlanningHarness
  private let tiny = Fixtures.path("checkpoints/tiny")

  init() throws { harness = try PlanningHarness() }

  /// How `moe.up_proj`, eight experts of 256 x 256, is stored, and the `weights` of the configuration's group.
  struct Case: CustomTestStringConvertible, Sendable {
    let recipe: String
    let tensors: [String: String]
    let settings: [String: String]
    let group: [String: String]

    var testDescription: String { recipe }
  }

  static let compressed = ["quant_method": "compressed-tensors", "quantization_status": "compressed"]

  static let cases = [
    Case(
      recipe: "FP8_BLOCK", tensors: ["weight": "F8_E4M3 8x256x256", "weight_scale_inv": "F32 8x2x2"],
      settings: [
        "quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": "128,128",
      ], group: [:]),
    Case(
      recipe: "FP8_DYNAMIC", tensors: ["weight": "F8_E4M3 8x256x256", "weight_scale": "F32 8x256x1"],
      settings: compressed.merging(["format": "float-quantized"]) { $1 },
      group: ["num_bits": "8", "type": "float", "strategy": "channel"]),
    Case(
      recipe: "W8A8_INT8", tensors: ["weight": "I8 8x256x256", "weight_scale": "F32 8x256x1"],
      settings: compressed.merging(["format": "int-quantized"]) { $1 },
      group: ["num_bits": "8", "type": "int", "strategy": "channel"]),
    Case(
      recipe: "W8A8_INT8_SGLANG", tensors: ["weight": "I8 8x256x256", "weight_scale": "F32 8x256x1"],
      settings: ["quant_method": "w8a8_int8"], group: [:]),
    Case(
      recipe: "W4A16",
      tensors: ["weight_packed": "I32 8x256x32", "weight_scale": "BF16 8x256x2", "weight_shape": "I64 8x2"],
      settings: compressed.merging(["format": "pack-quantized"]) { $1 },
      group: ["num_bits": "4", "type": "int", "strategy": "group", "group_size": "128"]),
    Case(
      recipe: "W4A16_G32",
      tensors: ["weight_packed": "I32 8x256x32", "weight_scale": "BF16 8x256x8", "weight_shape": "I64 8x2"],
      settings: compressed.merging(["format": "pack-quantized"]) { $1 },
      group: ["num_bits": "4", "type": "int", "strategy": "group", "group_size": "32"]),
    Case(
      recipe: "NVFP4A16",
      tensors: [
        "weight_packed": "U8 8x256x128", "weight_scale": "F8_E4M3 8x256x16", "weight_global_scale": "F32 8",
      ], settings: compressed.merging(["format": "nvfp4-pack-quantized"]) { $1 },
      group: [
        "num_bits": "4", "type": "float", "strategy": "tensor_group", "group_size": "16",
        "scale_dtype": "torch.float8_e4m3fn",
      ]),
    Case(
      recipe: "NVFP4A16_MODELOPT",
      tensors: ["weight": "U8 8x256x128", "weight_scale": "F8_E4M3 8x256x16", "weight_scale_2": "F32 8"],
      settings: ["quant_method": "modelopt", "quant_algo": "W4A16_NVFP4", "group_size": "16"], group: [:]),
    Case(
      recipe: "MXFP4", tensors: ["weight": "U8 8x256x128", "weight_scale": "U8 8x256x8"],
      settings: ["quant_method": "mxfp4"], group: [:]),
    Case(
      recipe: "MXFP4A16", tensors: ["weight_packed": "U8 8x256x128", "weight_scale": "U8 8x256x8"],
      settings: compressed.merging(["format": "mxfp4-pack-quantized"]) { $1 },
      group: [
        "num_bits": "4", "type": "float", "strategy": "group", "group_size": "32",
        "scale_dtype": "torch.uint8",
      ]),
  ]

  private func quantization(_ plan: ShardPlan) throws -> [String: Any] {
    let text = try #require(plan.parts[0].documents.first { $0.path == "config.json" }?.text)
    let json = try #require(JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    #expect(json["torch_dtype"] as? String == "bfloat16")
    return try #require(json["quantization_config"] as? [String: Any])
  }

  /// A value as text: lists joined with commas, null as "null".
  private func words(_ value: Any?) -> String {
    switch value {
    case nil: "missing"
    case let list as [Any]: list.map { words($0) }.joined(separator: ",")
    case let text as String: text
    case let other?: "\(other)"
    }
  }

  private func tensors(_ plan: ShardPlan, of module: String) -> [String: String] {
    var found: [String: String] = [:]
    for tensor in plan.files.flatMap(\.tensors) where tensor.name.hasPrefix(module + ".") {
      found[String(tensor.name.dropFirst(module.count + 1))] =
        "\(tensor.elementType) \(tensor.shape.dimensions.map(String.init).joined(separator: "x"))"
    }
    return found
  }

  @Test("only experts are quantised, whatever the recipe's own scope", arguments: cases) func experts(
    _ test: Case
  ) throws {
    let plan = try harness.plan(tiny, .init(recipe: test.recipe, scope: .experts)).plan
    for layer in 1...2 {
      for name in ["gate_proj", "up_proj", "down_proj"] {
        #expect(tensors(plan, of: "model.layers.\(layer).moe.\(name)") == test.tensors)
      }
    }
    let experts = plan.files.flatMap(\.tensors).filter {
      $0.name.contains(".moe.") && !$0.name.contains("gate.")
    }
    #expect(experts.count == 6 * test.tensors.count)
    #expect(
      plan.files.flatMap(\.tensors).allSatisfy { $0.name.contains(".moe.") || $0.operation.scheme == nil })
    let settings = try quantization(plan)
    for (key, value) in test.settings { #expect(words(settings[key]) == value, "\(key)") }
    #expect(test.recipe != "MXFP4" || settings.count == 1)
    guard !test.group.isEmpty else { return }
    let groups = try #require(settings["config_groups"] as? [String: [String: Any]])
    let group = try #require(groups["group_0"])
    #expect(groups.count == 1 && group["targets"] as? [String] == ["Linear"])
    #expect(group["format"] as? String == settings["format"] as? String)
    let weights = try #require(group["weights"] as? [String: Any])
    for (key, value) in test.group { #expect(words(weights[key]) == value, "\(key)") }
    #expect(weights["symmetric"] as? Bool == true && weights["dynamic"] as? Bool == false)
    let activations = group["input_activations"] as? [String: Any]
    if test.recipe == "FP8_DYNAMIC" || test.recipe == "W8A8_INT8" {
      #expect(activations?["strategy"] as? String == "token" && activations?["dynamic"] as? Bool == true)
      #expect(activations?["type"] as? String == test.group["type"])
    } else {
      #expect(activations == nil && group["input_activations"] is NSNull)
    }
  }

  /// LOADERS.md 4.4: the list for compressed-tensors, with this model's dense layers, 0 and 3.
  @Test("unquantised modules are listed under both engines' names") func ignored() throws {
    let patterns = [
      "lm_head", "model.embed_tokens", #"re:.*vision_model.*"#, #"re:.*vit_.*"#, #"re:.*moe\.gate$"#,
      #"re:.*self_attn\..*"#, #"re:.*share_expert\..*"#, #"re:.*layers\.(0|3)\.mlp\..*"#,
    ]
    for recipe in ["FP8_DYNAMIC", "W8A8_INT8", "W8A8_INT8_SGLANG", "W4A16", "NVFP4A16", "MXFP4A16"] {
      let settings = try quantization(harness.plan(tiny, .init(recipe: recipe, scope: .experts)).plan)
      #expect(Set(try #require(settings["ignore"] as? [String])) == Set(patterns), "\(recipe)")
      guard recipe != "W8A8_INT8_SGLANG" else { continue }
      let linear = try quantization(harness.plan(tiny, .init(recipe: recipe, scope: .linear)).plan)
      #expect(Set(try #require(linear["ignore"] as? [String])) == Set(patterns.prefix(5)), "\(recipe)")
    }
    var names: Set<String> = ["lm_head"]
    for layer in 0..<4 {
      for name in ["qkv_proj", "q_proj", "k_proj", "v_proj", "wq", "o_proj"] {
        names.insert("model.layers.\(layer).self_attn.\(name)")
      }
      let ffn = layer == 1 || layer == 2 ? "share_expert" : "mlp"
      for name in ["gate_up_proj", "gate_proj", "up_proj", "down_proj"] {
        names.insert("model.layers.\(layer).\(ffn).\(name)")
      }
    }
    let fp8 = try quantization(harness.plan(tiny, .init(recipe: "FP8_BLOCK", scope: .experts)).plan)
    #expect(Set(try #require(fp8["modules_to_not_convert"] as? [String])) == names)
    let modelOpt = try quantization(harness.plan(tiny, .init(recipe: "NVFP4A16_MODELOPT")).plan)
    #expect(Set(try #require(modelOpt["ignore"] as? [String])).isSuperset(of: names))
  }

  @Test("layers left out are listed, fused and unfused") func someLayers() throws {
    let recipe = try Recipe.named("W4A16", for: .safetensors, scope: .linear).overriding(with: [
      TensorTypeOverride(argument: "layers.1.moe.*_proj=BF16"),
      TensorTypeOverride(argument: "layers.(0|2).self_attn.(q|k|v)_proj=BF16"),
      TensorTypeOverride(argument: "layers.3.mlp.down_proj=BF16"),
    ])
    let plan = try ShardPlanner.plan(
      Checkpoint.open(tiny), request: .init(format: .safetensors, recipe: recipe.name), recipe: recipe
    ).plan
    let list = Set(try #require(quantization(plan)["ignore"] as? [String]))
    #expect(
      list.isSuperset(of: [
        #"re:.*layers\.(1)\.(moe|mlp)\.experts.*"#,
        #"re:.*layers\.(0|2)\.self_attn\.(q_proj|k_proj|v_proj|qkv_proj)$"#,
        #"re:.*layers\.(3)\.mlp\.down_proj$"#,
      ]), "\(list)")
  }

  /// vLLM loads queries, keys and values along a dimension that weight_shape and matrix scales do not have.
  @Test("attention is fused where engines need it", arguments: cases.filter { $0.recipe != "MXFP4" })
  func attention(_ test: Case) throws {
    let plan = try harness.plan(tiny, .init(recipe: test.recipe, scope: .linear)).plan
    let isFused = ["W4A16", "W4A16_G32", "NVFP4A16", "NVFP4A16_MODELOPT"].contains(test.recipe)
    let fused = tensors(plan, of: "model.layers.0.self_attn.qkv_proj")
    let single = tensors(plan, of: "model.layers.0.self_attn.k_proj")
    #expect(fused.isEmpty == !isFused && single.isEmpty == isFused)
    let rows = isFused ? 384 : 64
    let expected = Dictionary(
      uniqueKeysWithValues: test.tensors.map { suffix, text in
        let shape = text.replacing("8x256x256", with: "\(rows)x256").replacing("8x256x", with: "\(rows)x")
          .replacing("8x2x2", with: "1x2")
        // Tensors with one entry per matrix.
        return (suffix, shape == "F32 8" ? "F32 1" : shape == "I64 8x2" ? "I64 2" : shape)
      })
    #expect((isFused ? fused : single) == expected)
    for module in ["share_expert.gate_proj", "share_expert.down_proj", "self_attn.wq", "self_attn.o_proj"] {
      #expect(tensors(plan, of: "model.layers.1.\(module)").count == test.tensors.count, "\(module)")
    }
    #expect(plan.files.flatMap(\.tensors).first { $0.name == "lm_head.weight" }?.elementType == .bf16)
  }

  @Test("a mixture of schemes, and MXFP4 for some experts only, are refused") func mixtures() throws {
    func refusal(_ recipe: String, _ overrides: [String]) throws -> CheckpointError? {
      let recipe = try Recipe.named(recipe, for: .safetensors).overriding(
        with: overrides.map { try TensorTypeOverride(argument: $0) })
      return #expect(throws: CheckpointError.self) {
        try ShardPlanner.plan(
          Checkpoint.open(tiny), request: .init(format: .safetensors, recipe: recipe.name), recipe: recipe)
      }
    }
    #expect(
      try refusal("W4A16", ["layers.1.moe=NVFP4A16"])?.message.contains("can only state one scheme") == true)
    #expect(try refusal("MXFP4", ["layers.1.moe=BF16"])?.remedy?.contains("MXFP4A16") == true)
    #expect(try refusal("MXFP4", ["o_proj=MXFP4"])?.remedy?.contains("MXFP4A16") == true)
    #expect(try refusal("NVFP4A16", ["layers.2.moe.up_proj=BF16"])?.message.contains("one module") == true)
    let search = #expect(throws: CheckpointError.self) {
      try harness.plan(tiny, .init(recipe: "FP8_BLOCK", scaleSearch: .mse))
    }
    #expect(search?.code == .invalidRequest)
  }

  @Test("scales of four-bit schemes are searched by default, of eight-bit ones on request") func searches()
    throws
  {
    func searches(_ recipe: String, _ search: ScaleSearch?) throws -> Set<ScaleSearch?> {
      let plan = try harness.plan(tiny, .init(recipe: recipe, scaleSearch: search)).plan
      return Set(plan.files.flatMap(\.tensors).filter { $0.operation.part == .codes }.map(\.operation.search))
    }
    #expect(try searches("NVFP4A16", nil) == [.mse] && searches("W4A16", .absmax) == [.absmax])
    #expect(try searches("FP8_DYNAMIC", nil) == [.absmax] && searches("W8A8_INT8", .mse) == [.mse])
  }
}
