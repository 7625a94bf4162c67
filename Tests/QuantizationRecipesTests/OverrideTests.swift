import Checkpoint
import Patterns
import QuantizationRecipes
import TensorFormats
import Testing

@Suite struct OverrideTests {
  @Test func overridesPrecedeTheRecipesRules() throws {
    let base = try #require(Recipe.builtIn(named: "Q4_K_M"))
    let recipe = base.overriding(with: [
      try TensorTypeOverride(argument: #"blk\.(0|1)\.attn_v=q8_0"#),
      try TensorTypeOverride(argument: "v_proj=F16"),
    ])
    #expect(recipe.rules.count == base.rules.count + 2)
    for (layer, format) in [(0, "Q8_0"), (1, "Q8_0"), (2, "F16")] {
      let subject = try #require(Inventory.step3["model.layers.\(layer).self_attn.v_proj.weight"])
      #expect(try recipe.decide(subject, in: .gguf).format.spelling == format)
    }
    #expect(base.overriding(with: []) == base)
  }

  @Test func theLastEqualsSignSeparatesTheFormat() throws {
    let override = try TensorTypeOverride(argument: "a=b=Q8_0")
    #expect(override.pattern.text == "a=b")
    #expect(override.format == .element(.q8_0))
  }

  @Test(arguments: ["attn_v", "=Q8_0", "attn_v=", "attn_v=Q9", "attn_(=Q8_0", ""])
  func badArgumentsAreRefused(text: String) {
    let error = #expect(throws: CheckpointError.self) { try TensorTypeOverride(argument: text) }
    #expect(error?.code == .invalidRequest)
  }

  @Test func rulesThatMatchNothingAreErrors() throws {
    let base = try #require(Recipe.builtIn(named: "Q4_K"))
    let recipe = base.overriding(with: [
      try TensorTypeOverride(argument: "no_such=Q8_0"),
      try TensorTypeOverride(argument: "moe.gate.weight=Q8_0"),
      try TensorTypeOverride(argument: "attn_v=Q8_0"),
    ])
    let used = Set(try Inventory.step3.subjects.compactMap { try recipe.decide($0, in: .gguf).rule })
    #expect(recipe.unusedRules(used: used) == [0, 1])
    let error = #expect(throws: CheckpointError.self) { try recipe.requireAllUsed(used) }
    #expect(
      error?.message
        == "the recipe 'Q4_K' has rules that decide no tensor: rule 1 (regex 'no_such' -> Q8_0), "
        + "rule 2 (regex 'moe.gate.weight' -> Q8_0)")
    #expect(error?.remedy?.contains("always kept precise") == true)
    try base.requireAllUsed([1])
  }

  @Test func optionalRulesMayMatchNothing() throws {
    let recipe = Recipe(
      name: "x", summary: "",
      rules: [
        RecipeRule(roles: [.vision], format: .keep, isOptional: true), RecipeRule(format: .element(.q8_0)),
      ])
    #expect(recipe.unusedRules(used: [1]) == [])
    #expect(recipe.unusedRules(used: []) == [1])
  }

  @Test func aTensorThatNoRuleCoversIsAnError() throws {
    let recipe = Recipe(name: "half", summary: "", rules: [RecipeRule(roles: [.attention], format: .keep)])
    let subject = try #require(Inventory.step3["model.layers.5.moe.up_proj.weight"])
    let error = #expect(throws: CheckpointError.self) { try recipe.decide(subject, in: .gguf) }
    #expect(error?.code == .invalidRequest)
    #expect(error?.tensor == "model.layers.5.moe.up_proj.weight")
    #expect(
      error?.message
        == "no rule of the recipe 'half' covers it (role routed_experts, layer 5, shape [48, 5120, 7168])")
  }

  @Test("Recipes without required rules work for models without a matrix", arguments: ["keep", "F32"])
  func needNoMatrix(name: String) throws {
    let recipe = try #require(Recipe.builtIn(named: name))
    #expect(recipe.unusedRules(used: []) == [])
  }
}
