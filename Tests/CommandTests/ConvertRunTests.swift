import ByteStreams
import CheckpointTesting
import Foundation
import Testing

/// `step3-convert plan --output` and `step3-convert run`: the same output by two commands.
@Suite("step3-convert run") struct ConvertRunTests {
  private let directory: TemporaryDirectory
  private var plan: String { directory.path("plan.json") }

  init() throws { directory = try TemporaryDirectory() }

  private func convert(_ arguments: String...) throws -> ToolResult {
    try runTool("step3-convert", arguments)
  }

  private func files(_ name: String) throws -> [String: Data] {
    let root = directory.path(name)
    var files: [String: Data] = [:]
    for case let file as String in try #require(FileManager.default.enumerator(atPath: root)) {
      guard try FileSystem.kind(of: "\(root)/\(file)") == .file else { continue }
      files[file] = try Data(contentsOf: URL(filePath: "\(root)/\(file)"))
    }
    return files
  }

  @Test(
    "the output equals that of the direct conversion",
    arguments: [
      ["--to", "gguf", "--quantize", "Q4_K"],
      ["--to", "safetensors", "--quantize", "NVFP4A16", "--partition", "afd", "--ffn-ep", "2"],
    ])
  func sameBytes(options: [String]) throws {
    let source = Fixtures.path("checkpoints/tiny")
    let direct = try runTool("step3-convert", [source, directory.path("direct")] + options)
    #expect(direct.status == 0, "\(direct.error)")
    let planned = try runTool("step3-convert", ["plan", source] + options + ["--output", plan])
    #expect(planned.status == 0, "\(planned.error)")
    let run = try convert("run", plan, directory.path("output"))
    #expect(run.status == 0, "\(run.error)")
    #expect(try files("output") == files("direct"))
    #expect(try files("output").count > 3)
  }

  @Test("a source may move with --source, and a changed one is refused")
  func movedSource() throws {
    let (old, new) = (directory.path("old"), directory.path("new"))
    try FileManager.default.copyItem(atPath: Fixtures.path("checkpoints/tiny"), toPath: old)
    #expect(try convert("plan", old, "--to", "gguf", "--output", plan).status == 0)
    try FileManager.default.moveItem(atPath: old, toPath: new)

    let lost = try convert("run", plan, directory.path("output"))
    #expect(lost.status == 66)
    #expect(lost.error.contains("--source"))
    try #expect(FileSystem.kind(of: directory.path("output")) == nil)

    let found = try convert("run", plan, directory.path("output"), "--source", new)
    #expect(found.status == 0, "\(found.error)")

    let configuration = URL(filePath: "\(new)/config.json")
    try (Data(contentsOf: configuration) + Data(" ".utf8)).write(to: configuration)
    let changed = try convert("run", plan, directory.path("again"), "--source", new)
    #expect(changed.status == 65)
    #expect(changed.error.contains("config.json"))
    try #expect(FileSystem.kind(of: directory.path("again")) == nil)
  }

  @Test("only a plan is overwritten, and only with --overwrite; a plan without its headers does not run")
  func storedFiles() throws {
    let source = Fixtures.path("checkpoints/tiny")
    let arguments = ["plan", source, "--to", "gguf", "--output", plan]
    #expect(try runTool("step3-convert", arguments).status == 0)
    #expect(try runTool("step3-convert", arguments).status == 73)
    #expect(try runTool("step3-convert", arguments + ["--overwrite"]).status == 0)
    #expect(try convert("plan", source, "--to", "gguf", "--overwrite").status == 64)

    let note = directory.path("note.json")
    try Data("{}".utf8).write(to: URL(filePath: note))
    #expect(try convert("plan", source, "--to", "gguf", "--output", note, "--overwrite").status == 73)
    #expect(try Data(contentsOf: URL(filePath: note)) == Data("{}".utf8))

    try FileManager.default.removeItem(atPath: "\(plan).headers")
    let alone = try convert("run", plan, directory.path("output"))
    #expect(alone.status == 66)
    #expect(alone.error.contains("plan.json.headers"))
  }
}
