import ByteStreams
import CheckpointTesting
import TensorFormats
import Testing

/// What is found in place of a file when a download or a checkout went wrong.
@Suite struct ForeignContentTests {
  private static let pointer = """
    version https://git-lfs.github.com/spec/v1
    oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
    size 4986211280

    """

  private func recognise(_ bytes: [UInt8], as expected: ForeignContent.Expected) -> ForeignContent? {
    ForeignContent(prefix: bytes, byteCount: bytes.count, expected: expected)
  }

  @Test(
    "pointers, web pages and server messages are recognised in place of any file",
    arguments: [
      ForeignContent.Expected.safetensors, .gguf, .json, .importanceMatrix,
    ])
  func inPlaceOfAnyFile(expected: ForeignContent.Expected) {
    let cases: [(String, ForeignContent)] = [
      (Self.pointer, .gitLFSPointer(byteCount: 4_986_211_280)),
      ("version https://hawser.github.com/spec/v1\noid sha256:00\nsize 12\n", .gitLFSPointer(byteCount: 12)),
      ("/annex/objects/SHA256E-s12--00.safetensors\n", .gitAnnexPointer),
      ("<!DOCTYPE html>\n<html><body>404</body></html>", .webPage),
      ("\u{FEFF}\n <HTML>", .webPage),
      ("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", .xml),
      ("Entry not found", .serverMessage("Entry not found")),
      ("Access to model a/b is restricted.\n", .serverMessage("Access to model a/b is restricted.")),
      (
        "{\"error\":\"Invalid username or password.\"}",
        .serverMessage("{\"error\":\"Invalid username or password.\"}")
      ),
      ("", .empty),
      ("\u{1F}\u{8B}", .format("gzip-compressed")),
    ]
    for (text, content) in cases {
      let bytes = text == "\u{1F}\u{8B}" ? [0x1F, 0x8B, 0x08, 0, 0, 0, 0, 0, 0, 3, 1, 2] : Array(text.utf8)
      #expect(recognise(bytes, as: expected) == content, "\(text)")
      #expect(!content.remedy.isEmpty && !content.description(insteadOf: expected).isEmpty)
    }
  }

  @Test func expectedContentIsNotForeign() {
    let header = Array("{\"a\":{}}".utf8)
    let safetensors = [UInt8(header.count), 0, 0, 0, 0, 0, 0, 0] + header
    #expect(recognise(safetensors, as: .safetensors) == nil)
    #expect(recognise(safetensors, as: .gguf) == .format("a safetensors file"))
    // A header's length may begin with an archive's magic bytes.
    #expect(recognise([0x1F, 0x8B, 0x08, 0, 0, 0, 0, 0] + header, as: .safetensors) != nil)
    let long = header + [UInt8](repeating: 0x20, count: 600_000)
    #expect(
      ForeignContent(
        prefix: Array(([0x1F, 0x8B, 0x08, 0, 0, 0, 0, 0] + long).prefix(1024)), byteCount: 600_016,
        expected: .safetensors) == nil)
    #expect(recognise(Array("GGUF\u{3}".utf8), as: .gguf) == nil)
    #expect(recognise(Array("GGUF\u{3}".utf8), as: .importanceMatrix) == nil)
    #expect(recognise(Array("GGUF\u{3}".utf8), as: .safetensors) == .format("a GGUF file"))
    for document in ["{\"model_type\": \"llama\"}", "{", "[1, 2", "\"text\"", "{\"architectures\": []}"] {
      #expect(recognise(Array(document.utf8), as: .json) == nil, "\(document)")
    }
    #expect(recognise(Array("{\"model_type\": 1}".utf8), as: .safetensors) == .format("a JSON document"))
    #expect(recognise([0xFF, 0xFE, 0x7B, 0], as: .json) == .utf16)
    #expect(recognise([UInt8](repeating: 0, count: 4096), as: .gguf) == .zeros)
    #expect(recognise([1, 2, 3, 4], as: .gguf) == nil)
  }

  @Test("an error is replaced by what was found and keeps the file; errors with other causes stay")
  func explaining() {
    let source = MemorySource(Array(Self.pointer.utf8), path: "model.safetensors")
    let plain = CheckpointError(.malformed, "the header's length is 1", offset: 0)
    let error = plain.explained(by: source, as: .safetensors)
    #expect(error.path == "model.safetensors" && error.offset == nil)
    #expect(error.message.contains("Git LFS pointer") && error.message.contains("4986211280"))
    #expect(error.remedy?.contains("git lfs pull") == true)
    let missing = CheckpointError(.notFound, "is not there")
    #expect(missing.explained(by: source, as: .safetensors) == missing.at(path: "model.safetensors"))
    // The parser already reports the empty file; only the remedy is added.
    let empty = plain.explained(by: MemorySource([], path: "b"), as: .gguf)
    #expect(empty.message == plain.message && empty.offset == 0 && empty.remedy?.contains("empty") == true)
    let sound = MemorySource([1, 2, 3], path: "a")
    #expect(plain.explained(by: sound, as: .gguf) == plain.at(path: "a"))
  }

  @Test func takenNamesAreRecognised() throws {
    let directory = try TemporaryDirectory()
    try #expect(!FileSystem.isTaken(directory.path("nothing")))
    try FileSystem.writeAtomically([1], to: directory.path("file"))
    try #expect(FileSystem.isTaken(directory.path("file")))
    #expect(FileSystem.linkDestination(of: directory.path("file")) == nil)
  }
}
