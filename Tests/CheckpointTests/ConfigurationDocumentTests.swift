import ByteStreams
import Checkpoint
import CheckpointTesting
import Foundation
import Safetensors
import TensorFormats
import Testing

/// `config.json` as found in practice.
@Suite struct ConfigurationDocumentTests {
  private let directory: TemporaryDirectory

  init() throws {
    directory = try TemporaryDirectory()
    let layout = try SafetensorsLayout([.init(name: "a", elementType: .f32, shape: TensorShape([2]))])
    try FileSystem.writeAtomically(
      layout.headerBytes + [UInt8](repeating: 0, count: 8), to: directory.path("model.safetensors"))
  }

  private func open(_ configuration: [UInt8]) throws -> Checkpoint {
    try FileSystem.writeAtomically(configuration, to: directory.path("config.json"))
    return try Checkpoint.open(directory.path)
  }

  private func open(_ configuration: String) throws -> Checkpoint { try open(Array(configuration.utf8)) }

  @Test func aByteOrderMarkIsIgnored() throws {
    let text = "{\"model_type\": \"llama\"}\r\n"
    let checkpoint = try open("\u{FEFF}" + text)
    #expect(checkpoint.architecture == "llama")
    #expect(checkpoint.configuration == Array(text.utf8))
    #expect(checkpoint.configurationDocument?.hasByteOrderMark == true)
    #expect(try open(text).configurationDocument?.hasByteOrderMark == false)
  }

  @Test(
    "NaN and Infinity are read as Python writes them",
    arguments: ["NaN", "Infinity", "-Infinity", "[0.0, Infinity]", "{\"b\": [-Infinity, NaN, -1e-5]}"])
  func constants(value: String) throws {
    let checkpoint = try open("{\"a\": \(value), \"model_type\": \"m\", \"architectures\": [1, \"A\", null]}")
    #expect(checkpoint.configurationDocument?.fault == nil)
    #expect(checkpoint.architecture == "m")
    #expect(checkpoint.configurationDocument?.architectures == ["A"])
  }

  @Test(
    "an unreadable configuration is reported with file, cause and remedy",
    arguments: [
      ("", "empty"), ("Entry not found", "Entry not found"), ("[1]", "an object"), ("{\"a\": nan}", "byte"),
      ("{\"a\": Nan}", "byte"), ("{\"a\": +Infinity}", "byte"), ("{\"a\": 1,}", "comma"),
      ("{\"a\": 1, \"a\": 2}", "twice"), ("{\"a\": {\"b\": 1, \"b\": 1}}", "twice"),
      ("{\"a\": [1, 2", "ends"),
      ("{\"a\": 1e999}", "too large"), ("{'a': 1}", "byte"), ("<html></html>", "HTML page"),
      ("{\"error\": \"Access to model x is restricted\"}", "restricted"),
      ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "Git LFS pointer"),
    ])
  func faults(text: String, part: String) throws {
    let checkpoint = try open(text)
    #expect(checkpoint.tensors.count == 1, "the weights can be looked at")
    #expect(checkpoint.configuration == nil && checkpoint.architecture == nil)
    let error = #expect(throws: CheckpointError.self) { try checkpoint.requireReadableConfiguration() }
    let fault = try #require(error)
    #expect(fault.path == directory.path("config.json"))
    #expect(fault.description.contains(part), "\(fault)")
    #expect(fault.remedy?.isEmpty == false)
  }

  @Test func utf16IsReportedAsSuch() throws {
    let data = try #require("{\"model_type\": \"m\"}".data(using: .utf16))
    let fault = try open(Array(data)).configurationDocument?.fault
    #expect(fault?.remedy == "save it as UTF-8")
  }

  @Test("a dangling link is not taken for a missing configuration") func danglingLink() throws {
    try FileManager.default.createSymbolicLink(
      atPath: directory.path("config.json"), withDestinationPath: "../../blobs/0123")
    let fault = try Checkpoint.open(directory.path).configurationDocument?.fault
    #expect(fault?.code == .notFound && fault?.path == directory.path("config.json"))
    try FileManager.default.removeItem(atPath: directory.path("config.json"))
    #expect(try Checkpoint.open(directory.path).configurationDocument == nil)
  }

  @Test("a part with an unreadable configuration is an error, not left out of its set") func brokenPart()
    throws
  {
    let set = try TemporaryDirectory()
    for part in ["attention", "ffn-ep0", "other"] {
      try FileSystem.createDirectory(set.path(part))
      try FileManager.default.copyItem(
        atPath: directory.path("model.safetensors"), toPath: set.path("\(part)/model.safetensors"))
      try FileSystem.writeAtomically(
        Array((part == "other" ? "{" : "\u{FEFF}{\"step3_partition\": {\"x\": NaN}}").utf8),
        to: set.path("\(part)/config.json"))
    }
    #expect(try Checkpoint.open(set.path).parts.map(\.name) == ["attention", "ffn-ep0"])
    try FileSystem.writeAtomically(Array("Entry not found".utf8), to: set.path("ffn-ep0/config.json"))
    let error = #expect(throws: CheckpointError.self) { try Checkpoint.open(set.path) }
    #expect(error?.path == set.path("ffn-ep0/config.json"))
  }
}
