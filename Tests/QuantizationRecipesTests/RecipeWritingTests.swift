import Checkpoint
import Patterns
import QuantizationRecipes
import TensorFormats
import Testing

@Suite struct RecipeWritingTests {
  @Test("built-in recipes can be written and read back", arguments: Recipe.builtIns.map(\.name))
  func builtIns(name: String) throws {
    var recipe = try Recipe.named(name)
    // Recipe files cannot express these.
    recipe.container = nil
    recipe.knownSubject = nil
    for index in recipe.rules.indices { recipe.rules[index].isLinear = nil }
    #expect(try Recipe(yaml: recipe.yaml(comment: ["a", "", "b\nc"]), path: "x.yaml") == recipe)
  }

  @Test func everyElementOfAFileRoundTrips() throws {
    let texts = [
      "plain", "with \"quotes\"", "back\\slash", "tab\tand\u{1}and\u{85}", "*star", "é漢😀", "- : #", "yes",
      "1",
    ]
    for text in texts {
      let recipe = Recipe(
        name: text, summary: text,
        rules: [
          RecipeRule(
            roles: [.attention, .lmHead], layers: [.range(0...3), .last(1), .moreBits, .firstFraction(8)],
            names: [.glob(text), .glob("b"), try .regex("a.[xy]$")], isExpertStack: false, expertCount: 3,
            hasTiedEmbedding: true, format: .element(.q4_0), fallback: .chain([.keep, .element(.bf16)]),
            isOptional: true),
          RecipeRule(format: .blockFP8, fallback: .error),
        ], onMisfit: .chain([.element(.q8_0)]),
        precise: PreciseFormats(safetensors: .keep, gguf: .element(.f16)))
      #expect(try Recipe(yaml: recipe.yaml(), path: "x.yaml") == recipe)
    }
  }
}
