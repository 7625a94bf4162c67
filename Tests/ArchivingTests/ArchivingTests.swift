import Archives
import Archiving
import ByteStreams
import CheckpointTesting
import Foundation
import TensorFormats
import Testing

/// Directories are archived and restored.
@Suite struct ArchivingTests {
  private let directory: TemporaryDirectory
  private var source: String { directory.path("source") }

  init() throws {
    directory = try TemporaryDirectory()
    try FileManager.default.createDirectory(atPath: source + "/sub/empty", withIntermediateDirectories: true)
    var generator = SeededGenerator(seed: 1)
    func weights(_ count: Int) -> [Float] {
      (0..<count).map { _ in
        (0..<6).reduce(Float(-0.06)) { sum, _ in sum + Float.random(in: 0..<0.02, using: &generator) }
      }
    }
    var file = WeightFile()
    file.add("a", "BF16", [3000, 200], WeightFile.bfloat16(weights(600_000)))
    file.add("b", "F32", weights(40_000))
    file.add("c", "U8", (0..<999).map { _ in UInt8.random(in: 0...255, using: &generator) })
    try file.write(to: source + "/model.safetensors")
    try FileManager.default.createSymbolicLink(
      atPath: source + "/sub/linked.safetensors", withDestinationPath: "../model.safetensors")
    try Data("not a tensor in it".utf8).write(to: URL(filePath: source + "/broken.gguf"))
    try Data().write(to: URL(filePath: source + "/empty.safetensors"))
    try Data("{}".utf8).write(to: URL(filePath: source + "/config.json"))
    try Data("{\"version\": 4}".utf8).write(to: URL(filePath: source + "/manifest.json"))
  }

  private func contents(_ path: String) throws -> [String: Data] {
    var result: [String: Data] = [:]
    for case let name as String in FileManager.default.enumerator(atPath: path) ?? .init()
    where try FileSystem.kind(of: "\(path)/\(name)") == .file {
      result[name] = try Data(contentsOf: URL(filePath: "\(path)/\(name)"))
    }
    return result
  }

  private func archive(_ name: String, threads: Int = 2, resume: Bool = false, memory: Int = 1 << 30)
    async throws
    -> Archiver.Outcome
  {
    try await Archiver(source, options: ArchivingOptions(threads: threads, memory: memory, resume: resume))
      .run(into: directory.path(name))
  }

  private func restore(_ name: String, into output: String) async throws {
    try await Restorer(directory.path(name), options: ArchivingOptions(threads: 2)).run(
      into: directory.path(output))
  }

  private func refused(
    _ code: CheckpointError.Code, _ words: String, _ body: () async throws -> Void
  ) async {
    let error = await #expect(throws: CheckpointError.self) { try await body() }
    #expect(error?.code == code && error?.description.contains(words) == true, "\(error?.description ?? "")")
  }

  @Test func directoriesRoundTrip() async throws {
    let outcome = try await archive("archive")
    #expect(outcome.manifest.storedBytes < outcome.manifest.bytes * 3 / 4)
    #expect(outcome.manifest.directories == ["sub/empty"])
    try #expect(!FileSystem.isTaken(directory.path("archive/step3-convert.journal")))
    try await restore("archive", into: "restored")
    #expect(try contents(directory.path("restored")) == contents(source))
    try #expect(FileSystem.kind(of: directory.path("restored/sub/empty")) == .directory)
    try #expect(!FileSystem.isTaken(directory.path("restored/step3-convert.journal")))
    #expect(
      try await Restorer(directory.path("archive"), options: ArchivingOptions(threads: 2)).check().isEmpty)

    let opened = try #require(try ArchiveDirectory(in: DirectoryStore(directory.path("archive"))))
    #expect(opened.manifest == outcome.manifest)
    for (name, data) in try contents(source) {
      let file = try opened.open(name)
      #expect(try file.readBytes(0..<file.byteCount) == Array(data))
    }
    #expect(try ArchiveDirectory(in: DirectoryStore(source)) == nil)
    await refused(.notFound, "no 'other'") { _ = try opened.open("other") }
  }

  @Test func sameBytesWhateverTheThreads() async throws {
    _ = try await archive("one", threads: 1, memory: ArchivingOptions.minimumMemory)
    _ = try await archive("eight", threads: 8)
    #expect(try contents(directory.path("one")) == contents(directory.path("eight")))
  }

  @Test func nothingIsOverwritten() async throws {
    _ = try await archive("archive")
    await refused(.cannotCreate, "already exists") { _ = try await archive("archive") }
    #expect(try await archive("archive", resume: true).wasComplete)
    try Data("more".utf8).write(to: URL(filePath: source + "/more.txt"))
    await refused(.cannotCreate, "another directory") { _ = try await archive("archive", resume: true) }
    await refused(.cannotCreate, "is inside it") { _ = try await archive("source/inside") }
    await refused(.cannotCreate, "contains the source") { _ = try await archive("", resume: true) }
    await refused(.cannotCreate, "already exists") { try await restore("archive", into: "source") }
    await refused(.invalidRequest, "is already an archive") {
      _ = try Archiver(directory.path("archive"), options: ArchivingOptions(threads: 1))
    }
    await refused(.notFound, "is not an archive") {
      _ = try Restorer(source, options: ArchivingOptions(threads: 1))
    }
  }

  @Test(arguments: ["model.safetensors.zst", "x.unfinished", "dangling"]) func unarchivableSourcesAreRefused(
    name: String
  )
    async throws
  {
    if name == "dangling" {
      try FileManager.default.createSymbolicLink(atPath: "\(source)/\(name)", withDestinationPath: "nowhere")
    } else {
      try Data().write(to: URL(filePath: "\(source)/\(name)"))
    }
    let error = await #expect(throws: CheckpointError.self) { _ = try await archive("archive") }
    #expect(error?.remedy != nil)
    try #expect(!FileSystem.isTaken(directory.path("archive")))
  }

  /// The state left by an interruption right after the journal was removed.
  @Test func resumingACompleteRestoreChangesNothing() async throws {
    _ = try await archive("archive")
    try await restore("archive", into: "restored")
    let again = try Restorer(directory.path("archive"), options: ArchivingOptions(threads: 2, resume: true))
    try await again.run(into: directory.path("restored"))
    let file = URL(filePath: directory.path("restored/model.safetensors"))
    var bytes = try Data(contentsOf: file)
    bytes[500_000] ^= 4
    try bytes.write(to: file)
    let error = await #expect(throws: CheckpointError.self) {
      try await again.run(into: directory.path("restored"))
    }
    #expect(error?.code == .cannotCreate)
    #expect(try Data(contentsOf: file) == bytes)
  }

  @Test func damageIsFoundAndNamed() async throws {
    _ = try await archive("archive")
    let path = directory.path("archive/model.safetensors.zst")
    var bytes = try Data(contentsOf: URL(filePath: path))
    bytes[500_000] ^= 4
    try bytes.write(to: URL(filePath: path))
    let findings = try await Restorer(directory.path("archive"), options: ArchivingOptions(threads: 2))
      .check()
    #expect(findings.map(\.path) == ["model.safetensors"])
    #expect(findings.first?.error.message.contains("of the original") == true)
    #expect(findings.first?.error.tensor == "a")
    await refused(.malformed, "model.safetensors.zst: byte ") {
      try await restore("archive", into: "restored")
    }
    try #expect(!FileSystem.isTaken(directory.path("restored/model.safetensors")))
    try Data("{ }".utf8).write(to: URL(filePath: directory.path("archive/config.json")))
    #expect(
      try await Restorer(directory.path("archive"), options: ArchivingOptions(threads: 2)).check().map(\.path)
        == ["config.json", "model.safetensors"])
  }

  @Test func hostileManifestsAreRefused() throws {
    let digest = String(repeating: "0", count: 64)
    func parse(
      _ path: String, _ stored: String, bytes: String = "5", storedBytes: String = "5", more: String = ""
    ) throws {
      let file =
        #"{"path": "\#(path)", "bytes": \#(bytes), "sha256": "\#(digest)", "stored": "\#(stored)", "storedBytes": \#(storedBytes), "methods": []}"#
      let text =
        #"{"format": "step3-archive", "version": 1, "tool": "1", "zstd": "1", "files": [\#(file)\#(more)], "directories": []}"#
      _ = try ArchiveManifest(parsing: Array(text.utf8))
    }
    try parse("a", "a")
    try parse("a/b", "a/b.zst", storedBytes: "3")
    for (path, stored) in [
      ("../a", "../a"), ("/a", "/a"), ("a/../b", "a/../b"), ("", ""), ("a//b", "a//b"), ("a", "b"),
      ("a", "a.zst.zst"),
      ("archive.json", "archive.json"), ("a\\u0000", "a\\u0000"),
    ] {
      let error = #expect(throws: CheckpointError.self) { try parse(path, stored) }
      #expect(error?.code == .malformed, "\(path)")
    }
    #expect(throws: CheckpointError.self) { try parse("a", "a", storedBytes: "6") }
    #expect(throws: CheckpointError.self) { try parse("a", "a", bytes: "-1", storedBytes: "-1") }
    #expect(throws: CheckpointError.self) { try parse("a", "a.zst", bytes: "1e400") }
    let version = #expect(throws: CheckpointError.self) {
      _ = try ArchiveManifest(parsing: Array(#"{"format": "step3-archive", "version": 2}"#.utf8))
    }
    #expect(version?.code == .unsupported)
  }
}
