internal import ByteStreams
internal import CheckpointTesting
internal import Foundation
internal import TensorFormats
internal import Testing
internal import Tokenization

/// Bytes of a file below `Fixtures/`.
func fixture(_ path: String) throws -> [UInt8] {
  Array(try Data(contentsOf: URL(fileURLWithPath: Fixtures.path(path))))
}

/// A JSON document below `Fixtures/`.
func fixture<Document: Decodable>(_ path: String, as type: Document.Type) throws -> Document {
  try JSONDecoder().decode(type, from: Data(fixture(path)))
}

/// A fixture's tokenizer by its name in `cases.json`.
func fixtureTokenizer(_ name: String) throws -> Tokenizer {
  if ["tiny", "odd"].contains(name) {
    return try Tokenizer(in: DirectoryStore(Fixtures.path("checkpoints/\(name)")))
  }
  return try Tokenizer(tokenizerJSON: fixture("tokenizer/\(name).json"))
}

/// A document with a vocabulary of all bytes, in order, and the given tokens and merges.
func document(
  tokens: [String] = [], merges: String = "[]", model: String = "", preTokenizer: String? = nil,
  rest: String = ""
) -> [UInt8] {
  let entries = (byteAlphabet + tokens).enumerated().map { "\(quoted($1)):\($0)" }
  let vocabulary = entries.joined(separator: ",")
  let byteLevel = #"{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}"#
  return Array(
    """
    {"version":"1.0","pre_tokenizer":\(preTokenizer ?? byteLevel),"decoder":{"type":"ByteLevel"}\(rest),
    "model":{"type":"BPE","vocab":{\(vocabulary)},"merges":\(merges)\(model)}}
    """.utf8)
}

/// A pre-tokenizer that removes the matches of a regular expression.
func removing(_ pattern: String, inverted: Bool = false) -> String {
  """
  {"type":"Sequence","pretokenizers":[
  {"type":"Split","pattern":{"Regex":\(quoted(pattern))},"behavior":"Removed","invert":\(inverted)},
  {"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]}
  """
}

/// A text as a JSON string.
func quoted(_ text: String) -> String {
  "\"\(text.replacingOccurrences(of: "\\", with: "\\\\").replacingOccurrences(of: "\"", with: "\\\""))\""
}

/// The characters of byte-level BPE, by byte.
let byteAlphabet: [String] = {
  var next: UInt32 = 0x100
  return (0..<256 as Range<UInt32>).map { byte in
    if (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || byte >= 0xAE {
      return UnicodeScalar(byte).map { String($0) } ?? ""
    }
    defer { next += 1 }
    return UnicodeScalar(next).map { String($0) } ?? ""
  }
}()

/// Checks that reading a document fails with this code and a message that contains these words.
func expectFailure(
  _ code: CheckpointError.Code, _ words: String, _ bytes: [UInt8], configuration: [UInt8]? = nil,
  at location: SourceLocation = #_sourceLocation
) {
  do throws(CheckpointError) {
    _ = try Tokenizer(tokenizerJSON: bytes, tokenizerConfigJSON: configuration)
    Issue.record("read without an error", sourceLocation: location)
  } catch {
    #expect(error.code == code, sourceLocation: location)
    #expect(error.message.contains(words), "\(error.message)", sourceLocation: location)
  }
}
