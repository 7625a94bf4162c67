import Checkpoint
import Foundation
import QuantizationRecipes
import TensorFormats
import Testing

@Suite struct BuiltInRecipeTests {
  /// One line per recipe: the formats of lm_head, the embedding and a layer's projections, in GGUF.
  @Test(arguments: [
    // recipe, lm_head, embedding, v_proj in layers 0, 7 and 9, down_proj of experts in 4, 7 and 58, o_proj, gate
    ("Q4_K", "Q4_K Q4_K Q4_K Q4_K Q4_K Q4_K Q4_K Q4_K Q4_K Q4_K"),
    ("IQ4_XS", "IQ4_XS IQ4_XS IQ4_XS IQ4_XS IQ4_XS IQ4_XS IQ4_XS IQ4_XS IQ4_XS IQ4_XS"),
    ("Q5_K_M", "Q6_K Q5_K Q6_K Q5_K Q6_K Q6_K Q5_K Q6_K Q5_K Q5_K"),
    ("Q5_K_S", "Q6_K Q5_K Q5_K Q5_K Q5_K Q5_K Q5_K Q5_K Q5_K Q5_K"),
    ("Q4_K_M", "Q6_K Q4_K Q6_K Q4_K Q6_K Q6_K Q4_K Q6_K Q4_K Q4_K"),
    ("Q4_K_S", "Q6_K Q4_K Q5_K Q4_K Q4_K Q5_K Q4_K Q4_K Q4_K Q4_K"),
    ("Q3_K_L", "Q6_K Q3_K Q5_K Q5_K Q5_K Q5_K Q5_K Q5_K Q5_K Q3_K"),
    ("Q3_K_M", "Q6_K Q3_K Q5_K Q4_K Q4_K Q4_K Q4_K Q4_K Q4_K Q3_K"),
    ("Q3_K_S", "Q6_K Q3_K Q3_K Q3_K Q3_K Q3_K Q3_K Q3_K Q3_K Q3_K"),
    ("MXFP4_MOE", "Q8_0 Q8_0 Q8_0 Q8_0 Q8_0 MXFP4 MXFP4 MXFP4 Q8_0 MXFP4"),
    ("BF16", "BF16 BF16 BF16 BF16 BF16 BF16 BF16 BF16 BF16 BF16"),
    ("keep", "keep keep keep keep keep keep keep keep keep keep"),
  ])
  func builtInRecipesDecideAsDocumented(name: String, expected: String) throws {
    let names = [
      "lm_head.weight", "model.embed_tokens.weight", "model.layers.0.self_attn.v_proj.weight",
      "model.layers.7.self_attn.v_proj.weight", "model.layers.9.self_attn.v_proj.weight",
      "model.layers.4.moe.down_proj.weight", "model.layers.7.moe.down_proj.weight",
      "model.layers.58.moe.down_proj.weight", "model.layers.20.self_attn.o_proj.weight",
      "model.layers.20.moe.gate_proj.weight",
    ]
    #expect(try formats(of: names, by: name, in: .gguf).joined(separator: " ") == expected)
  }

  /// The mixture does not depend on whether the checkpoint has Hugging Face's names or GGUF's.
  @Test(arguments: ["Q5_K_M", "Q4_K_M", "Q4_K_S", "Q3_K_L", "Q3_K_M", "MXFP4_MOE", "FP8_BLOCK"])
  func namesOfBothFormatsAreEquivalent(name: String) throws {
    let recipe = try #require(Recipe.builtIn(named: name))
    let container: Checkpoint.Format = name == "FP8_BLOCK" ? .safetensors : .gguf
    for subject in Inventory.step3.language where !subject.otherNames.isEmpty {
      var plain = subject
      plain.otherNames = []
      var gguf = plain
      gguf.name = subject.otherNames[0]
      #expect(try recipe.decide(plain, in: container).format == recipe.decide(gguf, in: container).format)
    }
  }

  @Test func fp8BlockHasStepFunsLayout() throws {
    let recipe = try #require(Recipe.builtIn(named: "fp8_block"))
    for subject in Inventory.step3.subjects {
      let decision = try recipe.decide(subject, in: .safetensors)
      let isLinear =
        subject.shape.rank >= 2
        && [.attention, .denseFFN, .sharedExpert, .routedExperts].contains(subject.role)
      let plain: [StorageFormat] = [.element(.bf16), .keep]
      #expect(isLinear ? decision.format == .blockFP8 : plain.contains(decision.format), "\(subject.name)")
      #expect(decision.reason == nil)
    }
  }

  /// Scopes: the routed experts, or every linear layer of the language model; never the embedding, norms, router, lm_head
  /// or vision.
  @Test(arguments: SchemeRecipe.all.map(\.name), SchemeRecipe.Scope.allCases)
  func schemesHaveScopes(name: String, scope: SchemeRecipe.Scope) throws {
    if name == "MXFP4", scope == .linear {
      let error = #expect(throws: CheckpointError.self) {
        try Recipe.named(name, for: .safetensors, scope: scope)
      }
      #expect(error?.code == .invalidRequest && error?.remedy?.contains("MXFP4A16") == true)
      return
    }
    let recipe = try Recipe.named(name, for: .safetensors, scope: scope)
    let roles: Set<TensorRole> =
      scope == .experts ? [.routedExperts] : [.attention, .denseFFN, .sharedExpert, .routedExperts]
    for subject in Inventory.step3.subjects {
      let format = try recipe.decide(subject, in: .safetensors).format
      let isLinear = subject.shape.rank >= 2 && roles.contains(subject.role)
      #expect((format.spelling == name) == isLinear, "\(subject.name): \(format)")
    }
  }

  @Test func groupSizesSelectNamedRecipes() throws {
    #expect(try Recipe.named("W4A16", for: .safetensors, groupSize: 64).name == "W4A16_G64")
    #expect(try Recipe.named("W4A16", for: .safetensors, groupSize: 128).name == "W4A16")
    for (name, size) in [("W4A16", 48), ("NVFP4A16", 32), ("Q4_K", 32)] {
      let error = #expect(throws: CheckpointError.self) {
        try Recipe.named(name, for: .safetensors, groupSize: size)
      }
      #expect(error?.code == .invalidRequest)
    }
    #expect(throws: CheckpointError.self) { try Recipe.named("W4A16", for: .gguf, scope: .linear) }
  }

  /// llama.cpp's exceptions for models with exactly eight experts, and only for those.
  @Test(arguments: [
    ("Q4_K_M", "Q8_0 Q8_0 Q5_K"), ("Q4_K_S", "Q8_0 Q8_0 Q5_K"), ("Q3_K_S", "Q8_0 Q8_0 Q5_K"),
    ("Q3_K_M", "Q8_0 Q8_0 Q5_K"), ("Q3_K_L", "Q8_0 Q8_0 Q3_K"), ("Q5_K_M", "Q8_0 Q8_0 Q5_K"),
    ("Q5_K_S", "Q8_0 Q8_0 Q5_K"), ("Q6_K", "Q6_K Q6_K Q6_K"),
  ])
  func eightExpertsAreTreatedAsInLlamaCpp(name: String, expected: String) throws {
    let recipe = try #require(Recipe.builtIn(named: name))
    var formats: [String] = []
    for part in ["v_proj", "k_proj", "o_proj"] {
      var subject = try #require(Inventory.step3["model.layers.20.self_attn.\(part).weight"])
      subject.expertCount = 8
      formats.append(try recipe.decide(subject, in: .gguf).format.spelling)
    }
    #expect(formats.joined(separator: " ") == expected)
  }

  @Test func aTiedEmbeddingIsTreatedAsTheOutput() throws {
    let recipe = try #require(Recipe.builtIn(named: "Q4_K_M"))
    var subject = try #require(Inventory.step3["model.embed_tokens.weight"])
    #expect(try recipe.decide(subject, in: .gguf).format == .element(.q4K))
    subject.hasTiedEmbedding = true
    #expect(try recipe.decide(subject, in: .gguf).format == .element(.q6K))
  }

  /// No built-in leaves a tensor of the model uncovered, falls back on its published shapes, or has a required rule
  /// that decides nothing.
  @Test(arguments: Recipe.builtIns)
  func builtInRecipesCoverStep3(recipe: Recipe) throws {
    let isScheme = SchemeRecipe.all.contains { $0.name == recipe.name } && recipe.container != nil
    let hasScheme = StorageFormat.all.contains {
      if case .scheme = $0 { $0.spelling == recipe.name } else { false }
    }
    let container: Checkpoint.Format = isScheme || hasScheme ? .safetensors : .gguf
    var used: Set<Int> = []
    for subject in Inventory.step3.subjects {
      let decision = try recipe.decide(subject, in: container)
      #expect(decision.reason == nil && decision.format == decision.wanted, "\(subject.name)")
      #expect((decision.rule == nil) == (decision.keptPrecise != nil))
      if let rule = decision.rule { used.insert(rule) }
    }
    #expect(recipe.unusedRules(used: used) == [])
    #expect(!recipe.summary.isEmpty)
  }

  @Test func namesAreUniqueAndComplete() {
    let names = Recipe.builtIns.map(\.name)
    // Only MXFP4 means different things in safetensors and GGUF.
    #expect(Set(names).count == names.count - 1)
    #expect(names.filter { $0 == "MXFP4" }.count == 2)
    let promised = [
      "keep", "BF16", "F16", "F32", "FP8_BLOCK", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S",
      "Q3_K_L",
      "Q3_K_M", "Q3_K_S", "IQ4_XS", "IQ4_NL", "MXFP4_MOE", "Q4_0", "Q4_K", "Q2_K", "TQ1_0", "NVFP4",
      "FP8_DYNAMIC", "W8A8_INT8", "W4A16", "W4A16_G64", "W4A16_G32", "NVFP4A16", "NVFP4A16_MODELOPT",
      "MXFP4A16",
    ]
    #expect(Set(promised).subtracting(names) == [])
    #expect(Recipe.builtIn(named: "q4_k_m")?.name == "Q4_K_M")
    #expect(Recipe.builtIn(named: "Q4") == nil)
  }

  @Test func recipesRoundTripThroughJSON() throws {
    for recipe in Recipe.builtIns {
      let json = try JSONEncoder().encode(recipe)
      #expect(try JSONDecoder().decode(Recipe.self, from: json) == recipe)
    }
  }

  private func formats(of names: [String], by recipeName: String, in container: Checkpoint.Format) throws
    -> [String]
  {
    let recipe = try #require(Recipe.builtIn(named: recipeName))
    return try names.map { name in
      try recipe.decide(try #require(Inventory.step3[name]), in: container).format.spelling
    }
  }
}

@Suite struct MisfitTests {
  /// The odd fixture's rows: 192 = 6 x 32, 96 = 3 x 32, 416 = 13 x 32, 160 = 5 x 32, 224 = 7 x 32; 240 is not a multiple of 32.
  @Test(arguments: [
    ("Q4_K", "Q5_0"), ("Q5_K", "Q5_1"), ("Q6_K", "Q8_0"), ("Q2_K", "IQ4_NL"), ("Q3_K", "IQ4_NL"),
    ("IQ4_XS", "IQ4_NL"), ("IQ3_S", "IQ4_NL"), ("IQ3_XXS", "IQ4_NL"), ("TQ1_0", "Q4_0"), ("TQ2_0", "Q4_0"),
    ("Q1_0", "Q4_0"),
  ])
  func largeBlocksFallBackToSmallOnes(name: String, standIn: String) throws {
    let recipe = try #require(Recipe.builtIn(named: name))
    var seen: Set<Int> = []
    for subject in Inventory.odd.subjects {
      let decision = try recipe.decide(subject, in: .gguf)
      guard decision.keptPrecise == nil else { continue }
      seen.insert(subject.shape.columns)
      let expected = subject.shape.columns % 32 == 0 ? standIn : "BF16"
      #expect(decision.format.spelling == expected, "\(subject.name)")
      #expect(decision.wanted.spelling == name)
      let reason = try #require(decision.reason)
      #expect(reason.contains("rows of \(subject.shape.columns) elements are not whole blocks of"))
      #expect(reason.contains(name))
    }
    #expect(seen == [192, 96, 240, 416, 160, 224])
  }

  @Test func blocksOf64FitRowsThatBlocksOf256DoNot() throws {
    let recipe = try #require(Recipe.builtIn(named: "NVFP4"))
    let expected = [
      192: "NVFP4", 96: "IQ4_NL", 416: "IQ4_NL", 160: "IQ4_NL", 224: "IQ4_NL", 240: "BF16", 48: "BF16",
    ]
    for (columns, format) in expected {
      #expect(try recipe.decide(matrix(columns: columns), in: .gguf).format.spelling == format)
    }
  }

  @Test func theLastResortKeepsAnF16SourceF16() throws {
    let recipe = try #require(Recipe.builtIn(named: "Q8_0"))
    let decision = try recipe.decide(matrix(columns: 48, type: .f16), in: .gguf)
    #expect(decision.format == .element(.f16))
    #expect(decision.reason == "rows of 48 elements are not whole blocks of 32 (Q8_0)")
  }

  @Test func everyStepOfAChainIsReported() throws {
    let recipe = try #require(Recipe.builtIn(named: "Q4_K"))
    let decision = try recipe.decide(matrix(columns: 48), in: .gguf)
    #expect(decision.format == .element(.bf16))
    #expect(
      decision.reason
        == "rows of 48 elements are not whole blocks of 256 (Q4_K); "
        + "rows of 48 elements are not whole blocks of 32 (Q5_0)")
  }

  @Test func aRuleMayNameItsOwnChainOrRefuse() throws {
    var rule = RecipeRule(
      format: .element(.q4K), fallback: .chain([.element(.nvfp4), .element(.q8_0), .element(.f32)]))
    var recipe = Recipe(name: "own", summary: "", rules: [rule])
    #expect(try recipe.decide(matrix(columns: 192), in: .gguf).format == .element(.nvfp4))
    #expect(try recipe.decide(matrix(columns: 96), in: .gguf).format == .element(.q8_0))
    #expect(try recipe.decide(matrix(columns: 48), in: .gguf).format == .element(.f32))
    rule.fallback = .error
    recipe.rules = [rule]
    let error = #expect(throws: CheckpointError.self) { try recipe.decide(matrix(columns: 48), in: .gguf) }
    #expect(error?.code == .unsupported)
    #expect(error?.tensor == "model.layers.0.mlp.up_proj.weight")
    #expect(
      error?.message == "cannot be stored as Q4_K: rows of 48 elements are not whole blocks of 256 (Q4_K)")
  }

  @Test("an obstacle given by the caller counts like a misfit, and the reason is that of the wanted format")
  func obstacles() throws {
    let rule = RecipeRule(
      format: .element(.iq2XXS), fallback: .chain([.element(.q4K), .element(.q8_0), .element(.f32)]))
    let recipe = Recipe(name: "own", summary: "", rules: [rule])
    func decide(_ columns: Int, _ obstacles: [StorageFormat: String]) throws -> (
      RecipeDecision, [StorageFormat]
    ) {
      var asked: [StorageFormat] = []
      let decision = try recipe.decide(matrix(columns: columns), in: .gguf) {
        format throws(CheckpointError) in
        asked.append(format)
        return obstacles[format]
      }
      return (decision, asked)
    }
    var (decision, asked) = try decide(256, [:])
    #expect(decision.format == .element(.iq2XXS) && decision.reason == nil && asked == [.element(.iq2XXS)])
    (decision, asked) = try decide(256, [.element(.iq2XXS): "no weights", .element(.q4K): "no time"])
    #expect(decision.format == .element(.q8_0) && decision.wanted == .element(.iq2XXS))
    #expect(decision.reason == "no weights")
    #expect(asked == [.element(.iq2XXS), .element(.q4K), .element(.q8_0)])
    // Formats that do not fit are not asked about.
    (decision, asked) = try decide(96, [.element(.q8_0): "no bytes"])
    #expect(decision.format == .element(.f32) && asked == [.element(.q8_0), .element(.f32)])
    #expect(
      decision.reason
        == "rows of 96 elements are not whole blocks of 256 (IQ2_XXS); "
        + "rows of 96 elements are not whole blocks of 256 (Q4_K); no bytes")
    let all = Dictionary(
      uniqueKeysWithValues: [rule.format, .element(.q4K), .element(.q8_0), .element(.f32)].map {
        ($0, "not today")
      })
    let error = #expect(throws: CheckpointError.self) { try decide(256, all) }
    #expect(error?.code == .unsupported && error?.message == "cannot be stored as IQ2_XXS: not today")
    let thrown = #expect(throws: CheckpointError.self) {
      try recipe.decide(matrix(columns: 256), in: .gguf) { _ throws(CheckpointError) in
        throw CheckpointError(.invalidRequest, "never")
      }
    }
    #expect(thrown?.message == "never")
  }

  @Test func aTypeThatTheContainerLacksIsAnError() throws {
    let q4K = try #require(Recipe.builtIn(named: "Q4_K"))
    let inSafetensors = #expect(throws: CheckpointError.self) {
      try q4K.decide(matrix(columns: 256), in: .safetensors)
    }
    #expect(inSafetensors?.message == "cannot be stored as Q4_K: safetensors has no type Q4_K")
    #expect(inSafetensors?.remedy?.contains("write GGUF") == true)
    let fp8 = try #require(Recipe.builtIn(named: "FP8_BLOCK"))
    let inGGUF = #expect(throws: CheckpointError.self) { try fp8.decide(matrix(columns: 256), in: .gguf) }
    #expect(inGGUF?.remedy?.contains("write safetensors") == true)
  }

  @Test func keepFallsBackWhereTheContainerLacksTheType() throws {
    let recipe = try #require(Recipe.builtIn(named: "keep"))
    let decision = try recipe.decide(matrix(columns: 256, type: .f8E4M3), in: .gguf)
    #expect(decision.format == .element(.bf16))
    #expect(decision.wanted == .keep)
    #expect(decision.reason == "GGUF has no type F8_E4M3")
    #expect(try recipe.decide(matrix(columns: 256, type: .f8E4M3), in: .safetensors).format == .keep)
    #expect(try recipe.decide(matrix(columns: 256, type: .q4K), in: .safetensors).format == .element(.bf16))
  }

  private func matrix(columns: Int, type: ElementType = .bf16) -> RecipeSubject {
    RecipeSubject(
      name: "model.layers.0.mlp.up_proj.weight", role: .denseFFN, layer: 0, layerCount: 3,
      shape: TensorShape([64, columns]), sourceType: type)
  }
}
