import JSON
import TensorFormats
import Testing

/// Which texts are JSON, and which are not.
@Suite struct ScannerTests {
  private func parse(_ text: String, _ dialect: JSONDialect = .strict) throws -> JSONValue {
    try JSONValue(parsing: Array(text.utf8), dialect: dialect)
  }

  @Test(arguments: [
    ("null", JSONValue.null), (" true\t", .bool(true)), ("\r\nfalse", .bool(false)), ("0", .integer(0)),
    ("[]", .array([])), ("[ ]", .array([])), ("{ }", .object([:])),
    ("[1 , [2]]", .array([.integer(1), .array([.integer(2)])])),
    (#"{"a":{"b":null},"":""}"#, .object(["a": .object(["b": .null]), "": .string("")])),
  ])
  func validJSONIsAccepted(text: String, expected: JSONValue) throws {
    #expect(try parse(text) == expected)
    #expect(try parse(text, .python) == expected)
  }

  @Test(
    "invalid JSON is refused with its byte offset",
    arguments: [
      ("", 0), ("  ", 2), ("nul", 0), ("nulL", 0), ("True", 0), ("[1,]", 3), ("[,1]", 1), ("[1 2]", 3),
      ("{\"a\":1,}", 7),
      ("{a:1}", 1), ("{\"a\" 1}", 5), ("{\"a\":}", 5), ("{1:2}", 1), ("[1", 2), ("{", 1), ("{\"a\":1", 6),
      ("1 2", 2),
      ("[] []", 3), ("01", 0), ("-", 0), ("+1", 0), (".5", 0), ("1.", 0), ("1.e5", 0), ("1e", 0), ("1e+", 0),
      ("-01", 0),
      ("0x10", 1), ("1_000", 1), ("[1]]", 3), ("//\n1", 0), ("\u{A0}1", 0), ("\u{FEFF} 1", 0), ("}", 0),
      ("[}", 1),
    ])
  func unsound(text: String, offset: Int) {
    let error = #expect(throws: CheckpointError.self) { try parse(text) }
    #expect(error?.code == .malformed && error?.offset == offset, "\(error.map { "\($0)" } ?? "")")
  }

  @Test("Python's constants and a byte order mark are read in the Python dialect only") func pythonDialect()
    throws
  {
    for (text, spelling) in [("NaN", "NaN"), ("Infinity", "Infinity"), (" -Infinity ", "-Infinity")] {
      #expect(try parse(text, .python) == .number(JSONNumber(spelling)))
      #expect(throws: CheckpointError.self) { try parse(text) }
    }
    #expect(try parse("\u{FEFF}{}", .python) == .object([:]))
    for text in [
      "nan", "Nan", "NaNN", "inf", "+Infinity", "-NaN", "Infinit", "-Infinit", "{\u{FEFF}}",
      "\u{FEFF}\u{FEFF}1",
    ] {
      #expect(throws: CheckpointError.self) { try parse(text, .python) }
    }
  }

  @Test("127 levels are read and 128 are not, of arrays and of objects") func depth() throws {
    for (open, close) in [("[", "]"), (#"{"a":"#, "}"), (#"[{"a":"#, "}]")] {
      let levels = open.hasPrefix("[{") ? 2 : 1
      func nested(_ count: Int) -> String {
        String(repeating: open, count: count) + "0" + String(repeating: close, count: count)
      }
      #expect(throws: Never.self) { try parse(nested(127 / levels)) }
      let error = #expect(throws: CheckpointError.self) { try parse(nested(128 / levels)) }
      #expect(error?.message.contains("127 deep") == true)
    }
    // Siblings do not count as nesting, and no length of text exhausts the stack.
    #expect(try parse("[" + String(repeating: "[],", count: 10_000) + "[]]").items?.count == 10_001)
    #expect(throws: CheckpointError.self) { try parse(String(repeating: "[", count: 1_000_000)) }
  }

  @Test("offsets count from the start of the file") func fileOffset() {
    let text = Array("[1, x]".utf8)
    let error = #expect(throws: CheckpointError.self) {
      var scanner = JSONScanner(text.span.bytes, fileOffset: 100)
      try scanner.skipValue()
    }
    #expect(error?.offset == 104)
  }

  @Test("skipping a value checks its syntax as reading it does") func skipping()
    throws
  {
    for text in ["[1, {\"a\": [true, null, \"x\"]}]", "{\"a\": 1, \"a\": 2}", "1e999"] {
      let bytes = Array(text.utf8)
      var scanner = JSONScanner(bytes.span.bytes)
      try scanner.skipValue()
      try scanner.finish()
    }
    for text in ["[1,]", "{\"a\" 1}", "\"\\x\"", "[1", "tru", "01"] {
      let bytes = Array(text.utf8)
      #expect(throws: CheckpointError.self) {
        var scanner = JSONScanner(bytes.span.bytes)
        try scanner.skipValue()
        try scanner.finish()
      }
    }
  }

  @Test(
    "sizes and offsets are read as integers",
    arguments: [
      ("0", 0), ("9223372036854775807", Int.max), ("9223372036854775808", nil), ("-1", nil), ("1.0", nil),
      ("1e2", nil),
      ("00", nil), ("\"1\"", nil), ("NaN", nil), ("", nil),
    ] as [(String, Int?)])
  func integers(text: String, expected: Int?) {
    let bytes = Array(text.utf8)
    var found: Int?
    do throws(CheckpointError) {
      var scanner = JSONScanner(bytes.span.bytes)
      found = try scanner.scanNonNegativeInteger("a size")
    } catch {
      #expect(error.code == .malformed)
    }
    #expect(found == expected)
  }

  @Test(
    "whole numbers written as floats are read as integers",
    arguments: [
      ("12", 12), ("12.0", 12), ("1.2e1", 12), ("9007199254740991.0", 1 << 53 - 1),
      ("9007199254740992.0", nil),
      ("12.5", nil), ("-1", nil), ("1e300", nil), ("99999999999999999999", nil),
    ] as [(String, Int?)])
  func wholeNumbers(text: String, expected: Int?) {
    let bytes = Array(text.utf8)
    var found: Int?
    do throws(CheckpointError) {
      var scanner = JSONScanner(bytes.span.bytes)
      found = try scanner.scanWholeNumber("a size")
    } catch {
      #expect(error.code == .malformed)
    }
    #expect(found == expected)
  }
}
