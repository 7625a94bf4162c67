import Checkpoint
import QuantizationRecipes
import TensorFormats
import Testing

@Suite struct KeptPreciseTests {
  @Test(arguments: [
    ("model.norm.weight", TensorRole.norm, [256], ElementType.bf16, KeptPrecise.norm),
    ("model.layers.0.moe.gate.weight", .router, [8, 256], .bf16, .router),
    ("model.layers.0.self_attn.inter_norm.weight", .attention, [256], .bf16, .vector),
    ("model.layers.0.mlp.up_proj.bias", .denseFFN, [256], .bf16, .bias),
    ("model.layers.0.moe.up_proj.bias", .routedExperts, [8, 256], .bf16, .bias),
    ("model.layers.0.x.weight_scale_inv", .scale, [2, 2], .f32, .scale),
    ("tokens.weight", .other, [4, 256], .i32, .integer),
    ("phases.weight", .other, [4, 256], .c64, .integer),
    ("vision_model.embeddings.patch_embedding.weight", .vision, [64, 3, 14, 14], .bf16, .convolution),
    ("vision_model.embeddings.class_embedding", .vision, [1, 64], .bf16, .notAWeight),
    ("vision_model.embeddings.position_embedding.weight", .vision, [17, 64], .bf16, .position),
    ("blk.0.ffn_gate_inp.weight", .other, [8, 256], .bf16, .router),
    ("blk.0.ssm_conv1d.weight", .other, [256, 256], .bf16, .convolution),
    ("blk.0.time_mix_w1.weight", .other, [256, 256], .bf16, .delicate),
    ("blk.0.attn_q_norm.weight", .other, [8, 256], .bf16, .norm),
    ("scalar.weight", .other, [], .bf16, .vector),
  ])
  func preciseTensorsAreNotMatchedAgainstRules(
    name: String, role: TensorRole, shape: [Int], type: ElementType, reason: KeptPrecise
  ) throws {
    let recipe = Recipe(name: "all", summary: "", rules: [RecipeRule(format: .element(.q8_0))])
    let subject = subject(name, role, shape, type)
    let decision = try recipe.decide(subject, in: .safetensors)
    #expect(decision.keptPrecise == reason)
    #expect(decision.rule == nil)
    #expect(!reason.explanation.isEmpty)
    #expect(decision.format == .keep)
    guard type != .c64 else { return }
    let expected: StorageFormat = reason == .integer || reason == .scale ? .keep : .element(.f32)
    #expect(try recipe.decide(subject, in: .gguf).format == expected)
  }

  @Test(arguments: ["blk.0.attn_q.weight", "model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight"])
  func ordinaryMatricesFollowTheRules(name: String) throws {
    let recipe = Recipe(name: "all", summary: "", rules: [RecipeRule(format: .element(.q8_0))])
    #expect(try recipe.decide(subject(name, .other, [256, 256], .bf16), in: .gguf).rule == 0)
  }

  @Test func preciseTypesDependOnTheContainer() throws {
    let recipe = try #require(Recipe.builtIn(named: "BF16"))
    var norm = subject("model.norm.weight", .norm, [256], .bf16)
    #expect(try recipe.decide(norm, in: .gguf).format == .element(.f32))
    #expect(try recipe.decide(norm, in: .safetensors).format == .keep)
    norm.sourceContainer = .gguf
    norm.sourceType = .f32
    #expect(try recipe.decide(norm, in: .gguf).format == .keep)
    #expect(try recipe.decide(norm, in: .safetensors).format == .element(.bf16))
  }

  @Test func keepAppliesToGGUFSourcesToo() throws {
    let recipe = try #require(Recipe.builtIn(named: "keep"))
    var norm = subject("output_norm.weight", .norm, [256], .f32)
    norm.sourceContainer = .gguf
    #expect(try recipe.decide(norm, in: .safetensors).format == .keep)
  }

  @Test func aRecipeMaySetThePreciseTypes() throws {
    let recipe = Recipe(
      name: "own", summary: "", rules: [RecipeRule(format: .element(.q8_0))],
      precise: PreciseFormats(safetensors: .element(.f32), gguf: .keep))
    let norm = subject("model.norm.weight", .norm, [256], .bf16)
    #expect(try recipe.decide(norm, in: .gguf).format == .keep)
    #expect(try recipe.decide(norm, in: .safetensors).format == .element(.f32))
  }

  @Test func integersThatTheContainerLacksAreAnError() throws {
    let recipe = try #require(Recipe.builtIn(named: "keep"))
    let error = #expect(throws: CheckpointError.self) {
      try recipe.decide(subject("table", .other, [4, 4], .u8), in: .gguf)
    }
    #expect(error?.message == "cannot be stored as keep: GGUF has no type U8")
  }

  private func subject(
    _ name: String, _ role: TensorRole, _ shape: [Int], _ type: ElementType
  ) -> RecipeSubject {
    RecipeSubject(
      name: name, role: role, layer: nil, layerCount: 4, shape: TensorShape(shape), sourceType: type)
  }
}
