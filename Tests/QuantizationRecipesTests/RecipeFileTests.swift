import ByteStreams
import Checkpoint
import Foundation
import Patterns
import QuantizationRecipes
import TensorFormats
import Testing

@Suite struct RecipeFileTests {
  @Test func aCompleteFileIsRead() throws {
    let recipe = try Recipe(
      yaml: """
        name: experts-first
        summary: Experts small, the rest large
        on_misfit: [Q8_0, BF16]
        precise: {gguf: F32, safetensors: keep}
        rules:
          - role: routed_experts
            layers: 4-6, last 1
            name: "*.down_proj.weight"
            format: Q6_K
            fallback: error
          - role: [routed_experts, shared_expert]
            layers: [7, "8-9"]
            regex: ['moe\\.', 'share']
            expert_stack: true
            experts: 48
            tied_embedding: false
            format: q4_k
            fallback: Q8_0
            optional: true
          - format: keep
        """, path: "dir/mine.yaml")
    #expect(
      recipe
        == Recipe(
          name: "experts-first", summary: "Experts small, the rest large",
          rules: [
            RecipeRule(
              roles: [.routedExperts], layers: [.range(4...6), .last(1)],
              names: [.glob("*.down_proj.weight")],
              format: .element(.q6K), fallback: .error),
            RecipeRule(
              roles: [.routedExperts, .sharedExpert], layers: [.range(7...7), .range(8...9)],
              names: [try .regex("moe\\."), try .regex("share")], isExpertStack: true, expertCount: 48,
              hasTiedEmbedding: false, format: .element(.q4K), fallback: .chain([.element(.q8_0)]),
              isOptional: true),
            RecipeRule(format: .keep),
          ],
          onMisfit: .chain([.element(.q8_0), .element(.bf16)]),
          precise: PreciseFormats(safetensors: .keep, gguf: .element(.f32))))
  }

  @Test func theBasesRulesFollow() throws {
    let recipe = try Recipe(
      yaml: "base: Q4_K_M\nrules:\n- {role: shared_expert, format: Q8_0}\n", path: "a/b/mine.yaml")
    let base = try #require(Recipe.builtIn(named: "Q4_K_M"))
    #expect(recipe.name == "mine.yaml")
    #expect(recipe.summary == "based on Q4_K_M")
    #expect(recipe.rules.count == base.rules.count + 1)
    let shared = try #require(Inventory.step3["model.layers.5.share_expert.down_proj.weight"])
    #expect(try recipe.decide(shared, in: .gguf).format == .element(.q8_0))
    let routed = try #require(Inventory.step3["model.layers.5.moe.down_proj.weight"])
    #expect(try recipe.decide(routed, in: .gguf).format == .element(.q6K))
  }

  @Test func theFirstRuleThatAppliesDecides() throws {
    let recipe = try Recipe(
      yaml: """
        rules:
        - {layers: first 2, role: attention, format: Q8_0}
        - {role: attention, format: Q5_K}
        - {format: Q4_K}
        """, path: "x")
    func decide(_ name: String) throws -> (String, Int?) {
      let decision = try recipe.decide(try #require(Inventory.step3[name]), in: .gguf)
      return (decision.format.spelling, decision.rule)
    }
    #expect(try decide("model.layers.1.self_attn.wq.weight") == ("Q8_0", 0))
    #expect(try decide("model.layers.2.self_attn.wq.weight") == ("Q5_K", 1))
    #expect(try decide("lm_head.weight") == ("Q4_K", 2))
  }

  @Test func patternsMatchEitherFormatsName() throws {
    let recipe = try Recipe(
      yaml: "rules:\n- {name: 'blk.*.attn_v.weight', format: Q8_0}\n- {format: Q4_K}", path: "x")
    let subject = try #require(Inventory.step3["model.layers.1.self_attn.v_proj.weight"])
    #expect(try recipe.decide(subject, in: .gguf).format == .element(.q8_0))
  }

  /// Each bad file with the start of its message; every message has a position.
  @Test(arguments: [
    ("rules: [", "line 2, column 1: "),
    ("a: 1\na: 2", "line 1, column 1: the key a appears twice"),
    ("- 1", "line 1, column 1: the document must be a mapping (key: value), not a list"),
    ("text", "line 1, column 1: the document must be a mapping (key: value), not 'text'"),
    ("name: x", "line 1, column 1: 'rules' is missing"),
    ("rules: []", "line 1, column 8: 'rules' is an empty list"),
    ("rules: {format: Q4_K}", "line 1, column 8: 'rules' must be a list, not a mapping"),
    ("rules: Q4_K", "line 1, column 8: 'rules' must be a list, not 'Q4_K'"),
    ("rules:\n- Q4_K", "line 2, column 3: an entry of 'rules' must be a mapping (key: value), not 'Q4_K'"),
    ("rulez: []", "line 1, column 1: unknown key 'rulez'"),
    ("rules:\n- {format: Q4_K, formt: Q4_K}", "line 2, column 18: unknown key 'formt'"),
    ("rules:\n- {? [1] : 2}", "line 2, column 6: unknown key of another kind"),
    ("rules:\n- {role: norm}", "line 2, column 3: the rule has no 'format'"),
    ("rules:\n- {format: Q4}", "line 2, column 12: 'Q4' is not a storage format"),
    ("rules:\n- {format: 8}", "line 2, column 12: 'format' must be a string, not '8'"),
    ("rules:\n- {format: [Q4_K]}", "line 2, column 12: 'format' must be a string, not a list"),
    ("rules:\n- {format: ''}", "line 2, column 12: 'format' must be a string, not empty"),
    ("rules:\n- format:\n  role: norm", "line 2, column 10: 'format' must be a string, not empty"),
    ("rules:\n- {format: ~}", "line 2, column 12: 'format' must be a string, not '~'"),
    ("rules:\n- {format: Q4_K, role: experts}", "line 2, column 24: 'experts' is not a role"),
    ("rules:\n- {format: Q4_K, role: []}", "line 2, column 24: 'role' is an empty list"),
    (
      "rules:\n- {format: Q4_K, role: [[norm]]}",
      "line 2, column 25: an entry of 'role' must be a string, not a list"
    ),
    ("rules:\n- {format: Q4_K, layers: 3-1}", "line 2, column 26: the layer range '3-1' runs backwards"),
    ("rules:\n- {format: Q4_K, layers: -1}", "line 2, column 26: '-1' selects no layers"),
    ("rules:\n- {format: Q4_K, layers: all}", "line 2, column 26: 'all' selects no layers"),
    ("rules:\n- {format: Q4_K, layers: 1.5}", "line 2, column 26: 'layers' must be a string, not '1.5'"),
    ("rules:\n- {format: Q4_K, layers: {}}", "line 2, column 26: 'layers' must be a string, not a mapping"),
    (
      "rules:\n- {format: Q4_K, regex: 'a('}",
      "line 2, column 25: 'a(' is not a regular expression: missing closing parenthesis, at character 3"
    ),
    ("rules:\n- &one {format: Q4_K}\n- *one", "line 3, column 3: the alias *one is not supported"),
    (
      "a: &a0 [x]\n? [&a1 [*a0, *a0]]\n: 1\n? [*a1]\n: 2\nrules: []",
      "line 2, column 9: the alias *a0 is not supported"
    ),
    (
      "rules:\n- {format: Q4_K, optional: yes}",
      "line 2, column 28: 'optional' must be true or false, not 'yes'"
    ),
    ("rules:\n- {format: Q4_K, optional: 'true'}", "line 2, column 28: 'optional' must be true or false"),
    ("rules:\n- {format: Q4_K, expert_stack: 1}", "line 2, column 32: 'expert_stack' must be true or false"),
    ("rules:\n- {format: Q4_K, experts: eight}", "line 2, column 27: 'experts' must be a whole number"),
    ("rules:\n- {format: Q4_K, experts: -8}", "line 2, column 27: 'experts' must be a whole number"),
    ("rules:\n- {format: Q4_K, fallback: none}", "line 2, column 28: 'none' is not a storage format"),
    ("rules:\n- {format: Q4_K, fallback: []}", "line 2, column 28: 'fallback' is an empty list"),
    ("base: Q4\nrules: []", "line 1, column 7: 'Q4' is not a built-in recipe"),
    ("precise: Q8_0\nrules: [{format: keep}]", "line 1, column 10: Q8_0 is not precise"),
    ("precise: {onnx: F32}\nrules: [{format: keep}]", "line 1, column 11: unknown key 'onnx'"),
    ("on_misfit: maybe\nrules: [{format: keep}]", "line 1, column 12: 'maybe' is not a storage format"),
    ("rules: [{format: keep}]\n---\nrules: []", "line 2, column 1: "),
  ])
  func badFilesAreRefused(yaml: String, message: String) {
    let error = #expect(throws: CheckpointError.self) { try Recipe(yaml: yaml, path: "r.yaml") }
    #expect(error?.code == .malformed)
    #expect(error?.path == "r.yaml")
    #expect(error?.message.hasPrefix(message) == true, "\(error?.message ?? "no message")")
  }

  @Test(arguments: ["", "# nothing\n", "\u{1}"])
  func emptyFilesAreRefused(yaml: String) {
    let error = #expect(throws: CheckpointError.self) { try Recipe(yaml: yaml, path: "r.yaml") }
    #expect(error?.code == .malformed)
  }

  @Test func hostileFilesAreRefused() {
    let nested = MemorySource(Array((String(repeating: "[", count: 100_000)).utf8))
    #expect(throws: CheckpointError.self) { try Recipe(file: nested) }
    let large = MemorySource([UInt8](repeating: 32, count: (1 << 20) + 1))
    let tooLarge = #expect(throws: CheckpointError.self) { try Recipe(file: large) }
    #expect(tooLarge?.message.contains("at most 1048576 are read") == true)
    let notText = #expect(throws: CheckpointError.self) {
      try Recipe(file: MemorySource([0xFF, 0xFE, 0x80]))
    }
    #expect(notText?.message == "is not UTF-8 text")
  }

  /// Nested aliases as keys: a parser that compares keys by value never ends.
  @Test func aliasesThatMultiplyAreRefusedAtOnce() throws {
    var text = "? &a0 [x]\n: 1\n"
    for level in 1...40 { text += "? &a\(level) [*a\(level - 1), *a\(level - 1)]\n: 1\n" }
    let error = #expect(throws: CheckpointError.self) { try Recipe(yaml: text, path: "bomb.yaml") }
    #expect(error?.code == .malformed && error?.path == "bomb.yaml")
    #expect(error?.message == "line 3, column 8: the alias *a0 is not supported")
  }

  /// Text that only looks like an alias or an anchor.
  @Test func starsAndAmpersandsAreText() throws {
    let text = "rules:\n- {format: Q4_K, name: '*weight', regex: 'a&weights'}\n- &unused {format: BF16}"
    let recipe = try Recipe(yaml: text, path: "r.yaml")
    #expect(recipe.rules[0].names == [.glob("*weight"), try .regex("a&weights")])
  }

  @Test func aPatternThatTakesTooLongIsAnError() throws {
    let recipe = try Recipe(
      yaml: "rules: [{format: BF16, regex: '(a|a)*[bc]'}, {format: BF16}]", path: "r.yaml")
    let subject = RecipeSubject(
      name: String(repeating: "a", count: 200) + ".weight", role: .other, layer: nil, layerCount: 1,
      shape: TensorShape([32, 32]), sourceType: .bf16)
    let error = #expect(throws: CheckpointError.self) { try recipe.decide(subject, in: .safetensors) }
    #expect(error?.code == .invalidRequest)
    #expect(error?.message.contains("regex '(a|a)*[bc]' takes too long") == true)
  }

  @Test func recipesAreFoundByNameOrPath() throws {
    #expect(try Recipe.named("q8_0").name == "Q8_0")
    let unknown = #expect(throws: CheckpointError.self) { try Recipe.named("Q4-KM") }
    #expect(unknown?.code == .invalidRequest)
    #expect(unknown?.remedy?.contains("Q4_K_M") == true)
    let missing = #expect(throws: CheckpointError.self) { try Recipe.named("no/such/recipe.yaml") }
    #expect(missing?.code == .notFound)
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("\(UUID()).yaml").path
    try "rules: [{format: Q8_0}]".write(toFile: path, atomically: true, encoding: .utf8)
    defer { try? FileManager.default.removeItem(atPath: path) }
    #expect(try Recipe.named(path).rules == [RecipeRule(format: .element(.q8_0))])
  }

  /// The manual's example is a valid recipe and covers the model.
  @Test func theManualsExampleWorks() throws {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let manual = try String(contentsOf: root.appendingPathComponent("Manuals/recipes.md"), encoding: .utf8)
    let blocks = manual.components(separatedBy: "```yaml\n").dropFirst().map {
      $0.components(separatedBy: "```")[0]
    }
    #expect(!blocks.isEmpty)
    for yaml in blocks {
      let recipe = try Recipe(yaml: yaml, path: "recipes.md")
      let used = try Inventory.step3.subjects.map { try recipe.decide($0, in: .gguf).rule }
      try recipe.requireAllUsed(Set(used.compactMap(\.self)))
    }
  }
}
