import Patterns
import TensorFormats
import Testing

@Suite("Patterns as Python matches them")
struct PythonPatternTests {
  /// The expected result is Python's `re.match(pattern, name) is not None`.
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
      (#"(a)\1"#, "aa", true), (#"(a)\1"#, "ab", false), (#"(?P<x>a|b)(?P=x)c"#, "bbc", true),
      ("(?i)ATTN", "attn", true), ("(?-i:A)", "a", false), ("(?i:s)", "\u{17F}", true),
      ("(?<=a)b", "ab", false), (#".*(?<=layers\.)3"#, "model.layers.3", true),
      ("(?=.*a(?=.*b(?=.*c)))", "xaxbxc", true),
      ("ü", "ü", true), ("a{,2}b", "aab", true), ("a{1, 2}", "a{1, 2}", true), ("{}", "{}", true),
      ("[]a]", "]", true), ("[a-]", "-", true), ("[a&&b]", "&", true), ("[[:alpha:]]", ":]", true),
      ("a$", "a\n", true), (#"a\Z"#, "a\n", false), ("(?m)a$.b", "a\nb", false), ("(?ms)a$.^b", "a\nb", true),
      (".b", "\nb", false), ("(?s).b", "\nb", true), (#"\061\x31\u0031"#, "111", true), (#"\d"#, "٣", true),
      (#"\w\W"#, "ü.", true), (#"[a\W]"#, ".", true), (#"[^a\W]"#, ".", false), (#"\s"#, "\u{1C}", true),
      ("(?>a+)a", "aaa", false), ("a++b", "aab", true), ("a(?#b)c", "ac", true),
      (#"a(?#\)b)c"#, "ac", true), ("(?=x)c?x", "x", true), ("(?=x)(?:c*)x", "xy", true),
      (#"\Qa"#, "a", nil), (#"\R"#, "\n", nil), ("(?<n>a)", "a", nil), (#"\z"#, "", nil),
    ] as [(String, String, Bool?)])
  func matches(pattern: String, name: String, expected: Bool?) throws {
    guard let expected else {
      #expect(throws: CheckpointError.self) { try PythonPattern(pattern) }
      return
    }
    #expect(try PythonPattern(pattern).matchesStart(of: name) == expected)
  }

  @Test(
    "What Python refuses is refused, with its position",
    arguments: [
      ("(", "missing )"), (")", "unbalanced parenthesis"), ("[a", "unterminated character set"),
      ("*a", "nothing to repeat, before character 2"), ("a**", "multiple repeat"),
      ("^*", "nothing to repeat"),
      (#"\b+"#, "nothing to repeat"), ("{2}", "nothing to repeat"), ("a{2,1}", "min repeat greater"),
      (#"\"#, "end of pattern"), ("[z-a]", "bad character range"), (#"[\d-a]"#, "bad character range"),
      (#"\q"#, "bad escape"), (#"\400"#, "octal escape"), (#"\xg1"#, "incomplete escape"),
      (#"\1"#, "invalid group reference"), (#"(a\1)"#, "open group"), ("(?P=x)", "unknown group name"),
      ("(?P<x>a)(?P<x>b)", "redefinition"), ("(?P<1>a)", "bad character in group name"),
      ("(?<=a+)b", "fixed-width"), ("(?<=a|bc)d", "fixed-width"), ("a(?i)b", "not at the start"),
      ("(?i-i:a)", "on and off"), ("(?R)", "unknown flag"), ("(?|a)", "unknown extension"),
      ("(*UTF)a", "nothing to repeat"), ("(?1)", "unknown extension"), ("(?#a", "unterminated comment"),
      (#"(?#a\)"#, "unterminated comment"),
    ])
  func refuses(pattern: String, message: String) {
    let error = #expect(throws: CheckpointError.self) { try PythonPattern(pattern) }
    #expect(error?.code == .malformed)
    #expect(error?.message.contains(message) == true, "\(error?.message ?? "")")
    #expect(error?.message.hasPrefix("'\(pattern)'") == true)
  }

  @Test(
    "What is not translated is refused",
    arguments: [
      "(a)?(?(1)b|c)", #"\N{DIGIT ONE}"#, "(?a)b", "(?x)a b", #"(a)(?<=\1)"#, #"(?i)(a)\1"#, "(?i)ü",
      #"\ud800"#,
      "a{99999}", "(?P<ü>a)", String(repeating: "a", count: 5000),
      String(repeating: "(", count: 2000) + String(repeating: ")", count: 2000),
      "((((((a{200}){200}){200}){200}){200}){200}){200}",
    ])
  func doesNotTranslate(pattern: String) {
    let error = #expect(throws: CheckpointError.self) { try PythonPattern(pattern) }
    #expect(error?.code == .unsupported, "\(error?.message ?? "")")
  }

  @Test(
    "Matching time is limited, whatever the pattern",
    arguments: [
      "(a+)+[bc]", "(.*)*(.*)*[bc]", "(a|a)*[bc]", #"(.*)\1\1[bc]"#, "(?=(a+)+[bc])", "(?:a?){50}a{50}[bc]",
      "(((a{20}){20}){20})",
    ])
  func hostile(pattern: String) throws {
    let compiled = try PythonPattern(pattern)
    let name = String(repeating: "a", count: 60_000)
    do throws(CheckpointError) {
      #expect(try compiled.matchesStart(of: name) == (pattern == "(((a{20}){20}){20})"))
    } catch {
      #expect(error.message.contains("pattern '\(pattern)' takes too long"), "\(error.message)")
    }
    // Other patterns that draw on the same budget fail once it is used up.
    let budget = PatternBudget(steps: 100)
    #expect(throws: CheckpointError.self) {
      for _ in 0..<100 { _ = try PythonPattern("a.*").drawing(on: budget).matchesStart(of: "a") }
    }
  }

  @Test(
    "A shell pattern matches the whole name, as fnmatch does",
    arguments: [
      ("*self_attn*", "model.layers.0.self_attn.wq", true),
      ("model.layers.?.mlp", "model.layers.10.mlp", false),
      ("model.layers.?.mlp", "model.layers.1.mlp", true),
      ("layers.[01].x", "layers.1.x", true),
      ("layers.[!01].x", "layers.1.x", false),
      ("model", "model.x", false),
      ("a.c", "abc", false),
      ("a", "a\n", false), ("*", "a\nb", true), ("[", "[", true), ("[]]", "]", true), ("[!]]", "]", false),
      ("[a-c]x", "bx", true), ("[z-a]", "z", false), ("[!z-a]", "z", true), ("[a-]", "-", true),
      ("[^a]", "^", true), (#"[\d]"#, "d", true), (#"\d"#, #"\d"#, true), ("***a", "bba", true),
    ])
  func shell(pattern: String, name: String, expected: Bool) throws {
    #expect(try PythonPattern(shell: pattern).matchesStart(of: name) == expected)
  }
}
