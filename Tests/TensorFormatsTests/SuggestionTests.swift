import TensorFormats
import Testing

/// Suggestions for mistyped names.
@Suite struct SuggestionTests {
  @Test(
    arguments: [
      ("lst", ["list", "stats"], ["list"]), ("chekcsums", ["checksums", "run"], ["checksums"]),
      ("Q4KM", ["Q4_K_M", "Q4_K_S"], ["Q4_K_M"]),
      ("deepseekv3", ["deepseek-v3", "deepseek-llm"], ["deepseek-v3"]),
      ("Qwen-2", ["qwen2", "qwen35"], ["qwen2"]), ("quant", ["quantize", "to"], ["quantize"]),
      // Equally near: both, in their order.
      ("Q4_2", ["Q4_0", "Q8_0", "Q4_1"], ["Q4_0", "Q4_1"]),
    ])
  func nearNamesAreSuggested(name: String, names: [String], expected: [String]) {
    #expect(Suggestion.nearest(to: name, among: names) == expected)
  }

  @Test(
    arguments: [
      ("tp", ["to", "top"]), ("role", ["color", "router"]), ("", ["a"]), ("ab", ["abc"]),
      (String(repeating: "a", count: 65), [String(repeating: "a", count: 64)]),
    ])
  func distantNamesAreNotSuggested(name: String, names: [String]) {
    #expect(Suggestion.nearest(to: name, among: names).isEmpty)
    #expect(Suggestion.question(for: name, among: names) == nil)
  }

  @Test func suggestionsArePhrasedAsQuestions() {
    #expect(Suggestion.question(for: "Q4_2", among: ["Q4_0", "Q4_1"]) == "did you mean Q4_0 or Q4_1?")
  }
}
