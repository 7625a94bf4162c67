import Patterns
import TensorFormats
import Testing

@Suite struct NamePatternTests {
  @Test(arguments: [
    ("*", "", true), ("*", "a.b", true), ("a*c", "abc", true), ("a*c", "ac", true), ("a*c", "abcd", false),
    ("?", "", false), ("?", "a", true), ("*.v_proj.weight", "model.layers.1.self_attn.v_proj.weight", true),
    ("*.v_proj.weight", "v_proj.weight", false), ("a.b", "axb", false), ("*a*b*", "xxaxxbxx", true),
    ("*ab", "aab", true), ("**", "x", true), ("", "", true), ("", "x", false), ("[a]", "a", false),
  ])
  func globsMatchWholeNames(pattern: String, name: String, matches: Bool) throws {
    #expect(try NamePattern.glob(pattern).matches(name) == matches)
  }

  /// A pattern that needs exponential time in a naive matcher.
  @Test func globsDoNotBacktrackExponentially() throws {
    let pattern = NamePattern.glob(String(repeating: "*a", count: 40) + "b")
    #expect(try !pattern.matches(String(repeating: "a", count: 2000)))
  }

  @Test func expressionsMatchAnywhereInAName() throws {
    let pattern = try NamePattern.regex(#"blk\.(\d|1\d)\.attn_(k|v)"#)
    #expect(try pattern.matches("blk.12.attn_v.weight"))
    #expect(try !pattern.matches("blk.22.attn_v.weight"))
  }

  @Test(
    "an invalid expression is refused with its position",
    arguments: [
      ("a(b", "missing closing parenthesis, at character 4"), ("ä[", "at character 3"),
      ("*a", "at character 1"),
      ("a{2,1}", "out of order in {} quantifier, at character 6"), (#"\C"#, "at character 3"),
      ("(?P<a", "at character"),
      ("[a-z&&[^b]]", "operations on sets are not supported, at character 5"),
      ("[a-z--b]", "operations on sets are not supported"), ("[a[b]]", "nested sets are not supported"),
      ("((((((a{200}){200}){200}){200}){200}){200}){200}", "too large"),
      (String(repeating: "(", count: 10_000), "nested"),
    ])
  func badExpressions(pattern: String, message: String) {
    let error = #expect(throws: CheckpointError.self) { try NamePattern.regex(pattern) }
    #expect(error?.code == .invalidRequest)
    #expect(error?.message.contains(message) == true, "\(error?.message ?? "")")
    #expect(error?.message.hasPrefix("'\(pattern.prefix(200))") == true)
  }

  @Test(
    "expressions are PCRE2's, with Unicode",
    arguments: [
      (#"^\w+$"#, "größe_1", true), (#"^\d$"#, "٣", true), (#"(?i)ATTN"#, "blk.attn", true),
      (#"(?<=layers\.)\d+\.(?!mlp)"#, "layers.12.moe", true),
      (#"(?<=layers\.)\d+\.(?!mlp)"#, "layers.12.mlp", false),
      ("[]a]", "]", true), ("[[:digit:]-]$", "a-", true), (#"[a\[&]"#, "[", true),
      (#"\Q[a&&b]\E"#, "x[a&&b]y", true),
      ("", "anything", true), ("^$", "", true), ("a.c", "a\u{1F600}c", true), (#"(\w)\1"#, "ffn", true),
      (#"^(?:(a|b)*|c)+$"#, "abbac", true), ("(?=x)c?x", "x", true), ("(*pla:x)c*x", "xy", true),
    ])
  func dialect(pattern: String, name: String, matches: Bool) throws {
    #expect(try NamePattern(option: pattern).matches(name) == matches)
    #expect(try NamePattern.regex(pattern).kind == .regex)
  }

  /// Each of these needs exponential, cubic or quadratic time.
  static let hostile = [
    #"(\w+\.?)+Z"#, "(.*)*(.*)*(.*)*Z", "(a|a)*b", "(a|a)*[bc]", "(a+)+[bc]", "a*a*a*a*[bc]",
    #"(\w+\.?)+[Z!]"#,
    "(.*)*(.*)*(.*)*[YZ]", #"(.*)\1\1[bc]"#, "(a+)+$b", "a*a*a*a*b", "(a|aa)+$b", "(?:a?){50}a{50}b",
    #"(.*)\1\1b"#, "(?=(a+)+b)", "(a*?)*?b", "[a-z]{60000}1", "(?:(?:a*)*)*b", "(?R)?a(?R)?b", #"(\w+\s?)*!"#,
    "^(a|b|ab)*c", "(x+x+)+y|a{30000}b",
  ]

  @Test("matching time is bounded, whatever the pattern and the name", arguments: hostile)
  func hostilePatterns(pattern: String) throws {
    let compiled = try NamePattern.regex(pattern)
    for name in [
      String(repeating: "a", count: 100_000), String(repeating: "ab.", count: 33_000),
      String(repeating: "a", count: 59_999) + "." + String(repeating: "a", count: 40_000),
      "model.layers.0.self_attn.q_proj.weight", String(repeating: "model.layers.", count: 20),
    ] {
      do throws(CheckpointError) {
        _ = try compiled.matches(name)
      } catch {
        #expect(error.code == .invalidRequest)
        #expect(error.message.contains("regex '\(pattern)'"), "\(error.message)")
      }
    }
  }

  @Test func aMatchThatTakesTooLongIsAnError() throws {
    let pattern = try NamePattern.regex("(a|a)*[bc]")
    let error = #expect(throws: CheckpointError.self) {
      try pattern.matches(String(repeating: "a", count: 100))
    }
    #expect(
      error?.message == "regex '(a|a)*[bc]' takes too long on the name "
        + "'\(String(repeating: "a", count: 80))...' (100 bytes)")
    #expect(error?.remedy?.contains("repetitions") == true)
    // Another name is unaffected.
    #expect(try pattern.matches("aaab"))
  }

  @Test func aJobsPatternsShareABudget() throws {
    let budget = PatternBudget(steps: 20_000)
    let patterns = [try NamePattern.regex("x$").drawing(on: budget), .glob("*a*a*b").drawing(on: budget)]
    let name = String(repeating: "a", count: 100)
    var matched = 0
    let error = #expect(throws: CheckpointError.self) {
      for _ in 0..<10_000 {
        for pattern in patterns { _ = try pattern.matches(name) }
        matched += 1
      }
    }
    #expect(matched > 5 && matched < 1000)
    #expect(error?.message.contains("their steps ran out") == true)
    // Patterns compare by their text.
    #expect(try patterns[0] == NamePattern.regex("x$"))
  }
}
