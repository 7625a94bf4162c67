import Checkpoint
import Quantization
import QuantizationRecipes
import TensorFormats
import Testing

import BitAllocation

@Suite struct BudgetRecipeTests {
  private func tensor(_ name: String, layer: Int? = nil) -> BudgetRecipe.Tensor {
    BudgetRecipe.Tensor(name: name, layer: layer)
  }

  private func rules(_ tensors: [BudgetRecipe.Tensor], _ choices: [String: ElementType]) throws -> [String] {
    let base = try Recipe.named("Q4_K")
    let recipe = BudgetRecipe(tensors: tensors, choices: choices).recipe(
      named: "b", summary: "s", base: base, pins: 0, used: [1])
    #expect(try Recipe(yaml: recipe.yaml(), path: "b.yaml") == recipe)
    // The rest of the base recipe comes last.
    #expect(recipe.rules.last == RecipeRule(format: .element(.q4K), isOptional: true))
    return recipe.rules.dropLast().map(\.description)
  }

  @Test func layersOfOneFormatShareOneRule() throws {
    let tensors = (0..<7).map { (layer: Int) in tensor("blk.\(layer).attn_k.weight", layer: layer) }
    var choices = Dictionary(
      uniqueKeysWithValues: (0..<7).map { ("blk.\($0).attn_k.weight", ElementType.q4K) })
    #expect(try rules(tensors, choices) == ["name 'blk.*.attn_k.weight' -> Q4_K"])
    choices["blk.2.attn_k.weight"] = .q6K
    choices["blk.6.attn_k.weight"] = .q6K
    #expect(
      try rules(tensors, choices) == [
        "layers 0-1, 3-5, name 'blk.*.attn_k.weight' -> Q4_K",
        "layers 2, 6, name 'blk.*.attn_k.weight' -> Q6_K",
      ])
    // A layer without a choice must not be covered by the rule.
    choices = ["blk.3.attn_k.weight": .q5K]
    #expect(try rules(tensors, choices) == ["layers 3, name 'blk.*.attn_k.weight' -> Q5_K"])
  }

  @Test func namesThatLookLikePatternsAreMatchedLiterally() throws {
    let tensors = [tensor("a*b.weight"), tensor("what?.weight"), tensor("a\"\\b\u{1}.weight")]
    let choices = Dictionary(
      uniqueKeysWithValues: ["a*b.weight", "what?.weight", "a\"\\b\u{1}.weight"].map { ($0, ElementType.q4K) }
    )
    let base = try Recipe.named("Q4_K")
    let recipe = BudgetRecipe(tensors: tensors, choices: choices).recipe(
      named: "b", summary: "s", base: base, pins: 0, used: [])
    let read = try Recipe(yaml: recipe.yaml(), path: "b.yaml")
    func matching(_ name: String) throws -> Int {
      let subject = RecipeSubject(
        name: name, role: .other, layer: nil, layerCount: 1, shape: TensorShape([8, 256]), sourceType: .bf16)
      return try read.rules.count { rule in try rule.matches(subject) }
    }
    #expect(try choices.keys.allSatisfy { try matching($0) == 1 })
    #expect(try matching("axxb.weight") == 0 && matching("whatx.weight") == 0)
  }
}
