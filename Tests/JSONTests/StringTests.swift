import Foundation
import JSON
import TensorFormats
import Testing

/// Texts with every character that writers escape, or might.
enum JSONTestTexts {
  static let all: [String] = [
    "", "plain ~", "\"quoted\" \\ /", "\u{0}\u{1}\u{8}\u{9}\u{A}\u{B}\u{C}\u{D}\u{1F}", "\u{7F}",
    "\u{80}\u{9B}31m\u{9F}",
    "é e\u{301} 漢 🎛 \u{10FFFF}", "\u{2028}\u{2029}", "\u{202E}abc\u{202C}\u{2066}x\u{2069}\u{200F}",
    "\u{FEFF}\u{AD}",
    "\u{1B}[2J", "\u{E000}\u{FFFF}",
  ]
}

/// Strings: what each style escapes, and what is read back.
@Suite struct StringTests {
  private func quoted(_ text: String, _ style: JSONText.Style) -> String {
    JSONText.quoted(text, style: style)
  }

  @Test(
    "U+007F is written as serde_json does in headers, as Python does in an index, and escaped for terminals"
  )
  func delete() {
    #expect(quoted("\u{7F}", .minimal) == "\"\u{7F}\"")
    #expect(quoted("\u{7F}", .ascii) == #""\u007f""#)
    #expect(quoted("\u{7F}", .terminal) == #""\u007f""#)
  }

  @Test func eachStyleEscapesItsCharacters() {
    let controls = "\u{0}\u{8}\t\n\u{B}\u{C}\r\u{1F}\"\\/"
    for style in [JSONText.Style.minimal, .ascii, .terminal] {
      #expect(quoted(controls, style) == #""\u0000\b\t\n\u000b\f\r\u001f\"\\/""#)
    }
    #expect(quoted("é漢🎛\u{9B}\u{2028}\u{202E}", .minimal) == "\"é漢🎛\u{9B}\u{2028}\u{202E}\"")
    #expect(quoted("é漢🎛\u{9B}", .ascii) == #""\u00e9\u6f22\ud83c\udf9b\u009b""#)
    #expect(quoted("é漢🎛\u{9B}\u{2028}\u{202E}", .terminal) == #""é漢🎛\u009b\u2028\u202e""#)
  }

  @Test("every style is read back, by this parser and by Foundation", arguments: JSONTestTexts.all)
  func roundTrip(text: String) throws {
    for style in [JSONText.Style.minimal, .ascii, .terminal] {
      let written = Array(quoted(text, style).utf8)
      #expect(try JSONValue(parsing: written) == .string(text))
      #expect(try JSONDecoder().decode([String].self, from: Data([0x5B] + written + [0x5D])) == [text])
    }
  }

  @Test(arguments: [
    (#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{C}\n\r\t"), (#""\u0041\u00e9\u00E9\u6F22""#, "Aéé漢"),
    (#""\ud83c\udf9b\uD83C\uDF9B""#, "🎛🎛"), (#""\u0000\u001f\u007f""#, "\u{0}\u{1F}\u{7F}"),
    ("\"\u{7F}\"", "\u{7F}"), (#""\\u0041""#, "\\u0041"),
  ])
  func escapesAreDecoded(text: String, expected: String) throws {
    #expect(try JSONValue(parsing: Array(text.utf8)).text.map { Array($0.utf8) } == Array(expected.utf8))
  }

  @Test(
    "invalid strings are refused",
    arguments: [
      #""\x""#, #""\u12""#, #""\u12g4""#, #""\ud83c""#, #""\ud83cx""#, #""\ud83c\u0041""#, #""\udf9b""#,
      #""\ud83c\ud83c""#, "\"a\nb\"", "\"\u{0}\"", "\"\u{1F}\"", "\"a", "\"\\", "\"\\\"", "'a'", #""\U0041""#,
    ])
  func refused(text: String) {
    let error = #expect(throws: CheckpointError.self) { try JSONValue(parsing: Array(text.utf8)) }
    #expect(error?.code == .malformed && error?.offset != nil)
  }

  @Test(
    "invalid UTF-8 is refused",
    arguments: [
      [0x80], [0xBF], [0xC0, 0x80], [0xC1, 0xBF], [0xC3], [0xC3, 0x28], [0xE0, 0x80, 0x80],
      [0xE0, 0x9F, 0xBF],
      [0xED, 0xA0, 0x80], [0xED, 0xBF, 0xBF], [0xE2, 0x82], [0xF0, 0x80, 0x80, 0x80],
      [0xF0, 0x8F, 0xBF, 0xBF],
      [0xF4, 0x90, 0x80, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xFF], [0xF0, 0x9F, 0x8E],
    ] as [[UInt8]])
  func notUTF8(bytes: [UInt8]) {
    let quote = UInt8(ascii: "\"")
    for text in [[quote] + bytes + [quote], [quote, 0x61] + bytes] {
      #expect(throws: CheckpointError.self) { try JSONValue(parsing: text) }
      #expect(throws: CheckpointError.self) { try JSONValue(parsing: text, dialect: .python) }
    }
  }
}
