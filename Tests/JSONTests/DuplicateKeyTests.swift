import JSON
import TensorFormats
import Testing

/// Documents in which an object has two values under one name.
@Suite struct DuplicateKeyTests {
  private func check(_ text: String, keys: Int = 100, values: Int = 1000) throws {
    let bytes = Array(text.utf8)
    var scanner = JSONScanner(bytes.span.bytes)
    try scanner.checkDocument(JSONDocumentLimits(keys: keys, values: values))
  }

  @Test(arguments: [
    "{}", "[]", "1", #"{"a": 1, "b": {"a": 2, "c": [{"a": 3}, {"a": 3}]}, "A": null}"#,
    // Two spellings of one accent are two keys.
    #"{"\u00e9": 1, "e\u0301": 2}"#, #"{"a": "a", "b": "a"}"#,
  ])
  func distinctKeysAreAccepted(text: String) throws { try check(text) }

  @Test(arguments: [
    #"{"a": 1, "a": 1}"#, #"{"a": 1, "b": 2, "\u0061": 3}"#, #"{"\u0061": 1, "a": 3}"#,
    #"[{"x": [{"k": {"z": 1, "y": 2, "z": 3}}]}]"#, #"{"": 1, "": 2}"#, #"{"a": {"b": 1}, "a": {"b": 1}}"#,
    #"{"\ud83d\ude00": 1, "😀": 2}"#,
  ])
  func repeatedKeysAreRefused(text: String) throws {
    let error = #expect(throws: CheckpointError.self) { try check(text) }
    #expect(
      error?.code == .malformed && error?.message.contains("appears twice") == true && error?.offset != nil)
  }

  @Test func limitsAndSyntaxAreChecked() throws {
    try check(#"{"a": 1, "b": 2}"#, keys: 2, values: 5)
    #expect(throws: CheckpointError.self) { try check(#"{"a": 1, "b": 2}"#, keys: 1, values: 5) }
    #expect(throws: CheckpointError.self) { try check(#"{"a": 1, "b": 2}"#, keys: 2, values: 4) }
    for text in ["", "{", "{\"a\":}", "{} {}", "[1,]", String(repeating: "[", count: 200)] {
      #expect(throws: CheckpointError.self) { try check(text) }
    }
  }
}
