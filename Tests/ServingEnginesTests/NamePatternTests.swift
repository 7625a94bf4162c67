import ServingEngines
import Testing

@Suite("Patterns of module names")
struct NamePatternTests {
  /// Expected as Python's `re.match(pattern, name) is not None` gives it.
  @Test(
    "A pattern matches as re.match does",
    arguments: [
      (#".*self_attn\..*"#, "model.layers.0.self_attn.wq", true),
      (#"^model\."#, "language_model.model.layers.0", false),
      (#"model"#, "model.layers", true),
      (#"layers"#, "model.layers", false),
      (#".*layers\.(0|1|2|3|60)\.mlp\..*"#, "model.layers.6.mlp.down_proj", false),
      (#".*layers\.(0|1|2|3|60)\.mlp\..*"#, "model.layers.60.mlp.down_proj", true),
      (#".*moe\.gate$"#, "model.layers.4.moe.gate_proj", false),
      (#".*moe\.gate$"#, "model.layers.4.moe.gate", true),
      (#"(?!.*experts).*"#, "model.layers.4.moe.experts.0.up_proj", false),
      (#"(?!.*experts).*"#, "model.layers.4.self_attn.wq", true),
      (#"(?=.*wq).*layers"#, "model.layers.4.self_attn.wq", true),
      (#".*\.[0-9]{2}\..*"#, "model.layers.4.moe", false),
      (#".*\.[0-9]{1,2}\..*"#, "model.layers.44.moe", true),
      (#".*\.\d{2,}\."#, "model.layers.444.moe", true),
      (#"[^l]*layers"#, "model.layers", false),
      (#".*\bwq\b"#, "self_attn.wq", true),
      (#"a?b+c*d??$"#, "bbd", true),
      (#"(?:ab|a)(?:c|bcd)$"#, "abcd", true),
      (#"a{3}$"#, "aa", false),
      (#"[\w.-]+$"#, "lm-head.x_1", true),
      (#"()*$"#, "", true),
    ])
  func matches(pattern: String, name: String, expected: Bool) throws {
    #expect(try #require(NamePattern(pattern)).matchesStart(of: name) == expected)
  }

  @Test(
    "What is malformed or not replayed is refused",
    arguments: ["(", ")", "[a", "*a", #"(a)\1"#, "(?i)a", "(?<=a)b", "a{9999}", "{2}", #"\"#, "ü", "[z-a]"])
  func refuses(pattern: String) {
    #expect(NamePattern(pattern) == nil)
  }

  @Test("Repetitions of repetitions cannot make a program endless")
  func programLength() {
    #expect(NamePattern("(((a{200}){200}){200})") == nil)
    #expect(NamePattern("(?=.*a(?=.*b(?=.*c)))") == nil)
  }

  @Test(
    "A wildcard matches the whole name, as fnmatch does",
    arguments: [
      ("*self_attn*", "model.layers.0.self_attn.wq", true),
      ("model.layers.?.mlp", "model.layers.10.mlp", false),
      ("model.layers.?.mlp", "model.layers.1.mlp", true),
      ("layers.[01].x", "layers.1.x", true),
      ("layers.[!01].x", "layers.1.x", false),
      ("model", "model.x", false),
      ("a.c", "abc", false),
    ])
  func wildcards(pattern: String, name: String, expected: Bool) throws {
    #expect(try #require(NamePattern(wildcard: pattern)).matchesStart(of: name) == expected)
  }
}
