import ByteStreams
import Checkpoint
import CheckpointTesting
import Foundation
import GGUF
import TensorFormats
import Testing

/// Whatever is wrong with a file, the error that the tools print names it.
@Suite("errors name the broken file") struct BrokenFileTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  /// The basic command of each tool on a checkpoint.
  private static let commands: [(tool: String, arguments: [String])] = [
    ("step3-inspect", ["list"]), ("step3-inspect", ["metadata"]),
    ("step3-convert", ["plan", "--to", "safetensors", "--quantize", "BF16"]),
    ("step3-convert", ["plan", "--to", "gguf", "--quantize", "BF16"]), ("step3-verify", ["engine"]),
    ("step3-verify", ["run", "--tokens", "1,2", "--generate", "1"]),
  ]

  private func copy(_ fixture: String = "tiny") throws -> String {
    let path = directory.path(UUID().uuidString)
    try FileManager.default.copyItem(atPath: Fixtures.path("checkpoints/\(fixture)"), toPath: path)
    return path
  }

  private func replace(_ path: String, with bytes: [UInt8]) throws {
    try? FileManager.default.removeItem(atPath: path)
    try Data(bytes).write(to: URL(filePath: path))
  }

  /// Runs the commands and expects each to fail naming the file or, for those that do not need the file, to succeed.
  private func expectNamed(
    _ broken: String, opening path: String, words: String? = nil, succeeding: Set<String> = [],
    warning: Set<String> = []
  ) throws {
    for (tool, arguments) in Self.commands {
      let result = try runTool(tool, arguments + [path])
      let command = "\(tool) \(arguments[0])"
      if succeeding.contains(command) { continue }
      #expect(result.error.contains(broken), "\(command): \(result.error)")
      if let words { #expect(result.error.contains(words), "\(command): \(result.error)") }
      #expect(
        (result.status == 0) == warning.contains(command), "\(command): \(result.status) \(result.error)")
      if result.status != 0 { #expect([64, 65, 66].contains(result.status), "\(command): \(result.error)") }
    }
  }

  static let texts: [(String, String)] = [
    ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "git lfs pull"),
    ("<!DOCTYPE html><html>Sign in</html>", "HTML page"), ("Entry not found", "Entry not found"),
    ("", "empty"),
    ("{\"error\":\"Access to model a/b is restricted\"}", "restricted"),
  ]

  @Test("an unreadable config.json", arguments: texts) func configuration(text: String, words: String) throws
  {
    let path = try copy()
    try replace("\(path)/config.json", with: Array(text.utf8))
    try expectNamed("\(path)/config.json", opening: path, words: words, warning: ["step3-inspect list"])
  }

  @Test(
    "a configuration with impossible values",
    arguments: [
      ("\"head_dim\": 64", "\"head_dim\": 63"),
      ("\"moe_layers_enum\": \"1,2\"", "\"moe_layers_enum\": \"1,99\""),
      ("\"rope_theta\": 500000.0", "\"rope_theta\": NaN"),
      ("\"eos_token_id\": 1", "\"eos_token_id\": 4000000000"),
    ])
  func wrongConfiguration(old: String, new: String) throws {
    let path = try copy()
    let text = String(decoding: try Data(contentsOf: URL(filePath: "\(path)/config.json")), as: UTF8.self)
    let changed = text.replacing(old, with: new)
    try #require(changed != text)
    try replace("\(path)/config.json", with: Array(changed.utf8))
    try expectNamed(
      "\(path)/config.json", opening: path, succeeding: ["step3-inspect list", "step3-inspect metadata"])
    // A copy does not interpret the configuration, so it succeeds.
    let output = directory.path(UUID().uuidString)
    let result = try runTool("step3-convert", [path, output, "--to", "safetensors"])
    #expect(result.status == 0 && result.error.contains("\(path)/config.json"), "\(result.error)")
    #expect(try Data(contentsOf: URL(filePath: "\(output)/config.json")) == Data(changed.utf8))
  }

  @Test("a shard with a broken header", arguments: texts) func shard(text: String, words: String) throws {
    let path = try copy()
    let shard = try #require(try FileSystem.names(in: path).first { $0.hasSuffix(".safetensors") })
    try replace("\(path)/\(shard)", with: Array(text.utf8))
    try expectNamed("\(path)/\(shard)", opening: path, words: words)
  }

  @Test("a shard that is cut off, compressed or has a damaged header", arguments: ["cut", "header", "gzip"])
  func damagedShard(kind: String)
    throws
  {
    let path = try copy()
    let shard = try #require(try FileSystem.names(in: path).last { $0.hasSuffix(".safetensors") })
    var bytes = Array(try Data(contentsOf: URL(filePath: "\(path)/\(shard)")))
    switch kind {
    case "cut": bytes.removeLast(7)
    case "header": bytes[12] = 0
    default: bytes.replaceSubrange(0..<10, with: [0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3])
    }
    try replace("\(path)/\(shard)", with: bytes)
    try expectNamed("\(path)/\(shard)", opening: path, words: kind == "gzip" ? "gzip" : nil)
  }

  @Test("a broken index", arguments: texts) func index(text: String, words: String) throws {
    let path = try copy()
    let index = "\(path)/model.safetensors.index.json"
    try replace(index, with: Array(text.utf8))
    try expectNamed(index, opening: path, words: words)
  }

  @Test("a broken GGUF file", arguments: texts) func gguf(text: String, words: String) throws {
    let path = directory.path("model.gguf")
    try replace(path, with: Array(text.utf8))
    try expectNamed(path, opening: path, words: words)
    try expectNamed(path, opening: directory.path, words: words)
  }

  @Test(
    "a GGUF key with an impossible value",
    arguments: [
      "tokenizer.ggml.bos_token_id", "step3.attention.key_length", "step3.expert_used_count",
      "step3.block_count",
    ])
  func wrongKey(key: String) async throws {
    let path = directory.path("set")
    try await convert("tiny", to: .gguf, into: path)
    let file = "\(path)/model.gguf"
    let bytes = try Data(contentsOf: URL(filePath: file))
    // The key's 32-bit value follows its name and type.
    let name = try #require(bytes.range(of: Data(key.utf8)))
    var changed = Array(bytes)
    for offset in 4..<8 { changed[name.upperBound + offset] = offset == 7 ? 0x7F : 0xFF }
    try replace(file, with: changed)
    try expectNamed(
      file, opening: file,
      succeeding: ["step3-inspect list", "step3-inspect metadata", "step3-verify engine"])
  }

  @Test("a broken importance matrix", arguments: texts) func importanceMatrix(text: String, words: String)
    throws
  {
    let path = directory.path("imatrix.dat")
    try replace(path, with: Array(text.utf8))
    let result = try runTool(
      "step3-convert",
      ["plan", Fixtures.path("checkpoints/tiny"), "--to", "gguf", "--quantize", "Q4_K", "--imatrix", path])
    #expect(result.status == 65)
    #expect(result.error.contains(path) && result.error.contains(words), "\(result.error)")
  }

  @Test(
    "broken tokenizer files",
    arguments: ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
  func tokenizer(name: String) throws {
    let source = directory.path("with-tokenizer")
    for (text, words) in Self.texts {
      try? FileManager.default.removeItem(atPath: source)
      try FileManager.default.copyItem(atPath: Fixtures.path("checkpoints/tiny"), toPath: source)
      try replace("\(source)/\(name)", with: Array(text.utf8))
      let result = try runTool("step3-convert", ["plan", source, "--to", "gguf"])
      #expect(result.status == 65, "\(result.error)")
      #expect(result.error.contains("\(source)/\(name)"), "\(result.error)")
      #expect(result.error.contains(words), "\(result.error)")
    }
  }

  @Test("a non-finite scale is reported with its tensor and file") func deadExpert() async throws {
    let source = directory.path("nvfp4")
    try await convert("tiny", to: .safetensors, recipe: "NVFP4A16", into: source)
    let checkpoint = try Checkpoint.open(source)
    let scale = try #require(checkpoint.tensors.first { $0.name.hasSuffix("weight_global_scale") })
    let file = checkpoint.files[scale.file].source.path
    var bytes = Array(try Data(contentsOf: URL(filePath: file)))
    bytes.replaceSubrange(scale.byteRange.prefix(4), with: [0, 0, 0x80, 0x7F])
    try replace(file, with: bytes)
    let result = try runTool(
      "step3-convert", [source, directory.path("out"), "--to", "gguf", "--quantize", "Q8_0"])
    #expect(result.status == 65, "\(result.error)")
    #expect(result.error.contains(source), "\(result.error)")
    #expect(result.error.contains(".weight"), "\(result.error)")
  }
}
