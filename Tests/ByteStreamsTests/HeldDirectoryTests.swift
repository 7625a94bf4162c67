import ByteStreams
import CFileShims
import CheckpointTesting
import Foundation
import TensorFormats
import Testing

/// No operation on a held directory leads out of it.
@Suite struct HeldDirectoryTests {
  private let directory: TemporaryDirectory
  private let held: HeldDirectory

  init() throws {
    directory = try TemporaryDirectory()
    try FileSystem.createDirectory(directory.path("root"))
    try FileSystem.createDirectory(directory.path("outside"))
    try FileSystem.writeAtomically([1, 2, 3], to: directory.path("outside/file"))
    held = try #require(try HeldDirectory.open(directory.path("root")))
  }

  @Test func filesAreWrittenListedAndRemoved() throws {
    #expect(try held.createDirectory("part"))
    #expect(try !held.createDirectory("part"))
    try held.writeAtomically([1, 2], to: "part/a", replacing: false)
    #expect(try held.entry("part/a")?.kind == .file && held.entry("part/a")?.bytes == 2)
    #expect(try held.entry("part/b") == nil && held.entry("nowhere/b") == nil)
    #expect(try held.names() == ["part"] && held.directory("part")?.names() == ["a"])
    #expect(try InputFile("part/a", in: held).readBytes(0..<2) == [1, 2])
    #expect(throws: CheckpointError.self) { try held.writeAtomically([3], to: "part/a", replacing: false) }
    try held.writeAtomically([3], to: "part/a", replacing: true)
    #expect(try InputFile("part/a", in: held).byteCount == 1)
    try held.rename("part/a", to: "c", replacing: false)
    try held.writeAtomically([4, 4], to: "part/a", replacing: true)
    #expect(try !held.rename("part/a", to: "c", replacing: false))
    #expect(try InputFile("c", in: held).byteCount == 1)
    #expect(try !held.removeDirectoryIfEmpty("part"))
    for name in ["part/a", "part/a.writing", "nowhere/x"] { try held.removeFile(name) }
    #expect(try held.removeDirectoryIfEmpty("part"))
    #expect(held.freeSpace ?? 0 > 0)
  }

  @Test(
    "names that lead out of the directory are refused",
    arguments: ["../outside/file", "/etc/passwd", "a/../../b", "", ".", "a//b"])
  func namesThatLeadOut(name: String) throws {
    #expect(throws: CheckpointError.self) { try held.entry(name) }
    #expect(throws: CheckpointError.self) { try OutputFile(name, in: held, byteCount: 1) }
    #expect(throws: CheckpointError.self) { try held.removeFile(name) }
    #expect(throws: CheckpointError.self) { try held.createDirectory(name) }
  }

  @Test("links are not followed, neither as the last component nor on the way") func links() throws {
    let files = FileManager.default
    try files.createSymbolicLink(atPath: directory.path("root/file"), withDestinationPath: "../outside/file")
    try files.createSymbolicLink(atPath: directory.path("root/part"), withDestinationPath: "../outside")
    #expect(try held.entry("file")?.kind == .link && held.entry("part")?.kind == .link)
    for name in ["file", "part/file"] {
      for attempt in [
        { _ = try InputFile(name, in: self.held) },
        { _ = try OutputFile(name, in: self.held, byteCount: 1, reopening: true) },
        { _ = try OutputFile(name, in: self.held, byteCount: 1) },
        { _ = try AppendFile(name, in: self.held) },
      ] as [() throws -> Void] {
        let error = #expect(throws: CheckpointError.self) { try attempt() }
        #expect(error?.code == .cannotCreate)
      }
    }
    #expect(throws: CheckpointError.self) { try held.createDirectory("part") }
    #expect(throws: CheckpointError.self) { try held.removeFile("part/file") }
    #expect(throws: CheckpointError.self) { try held.rename("part/file", to: "x", replacing: true) }
    // A small file replaces the link itself, not its target.
    try held.writeAtomically([9], to: "file", replacing: true)
    #expect(try InputFile(directory.path("outside/file")).readBytes(0..<3) == [1, 2, 3])
    // A file with a second hard link is not appended to.
    try files.linkItem(atPath: directory.path("outside/file"), toPath: directory.path("root/hard"))
    let error = #expect(throws: CheckpointError.self) {
      try OutputFile("hard", in: held, byteCount: 1, reopening: true)
    }
    #expect(error?.code == .cannotCreate)
    #expect(try InputFile(directory.path("outside/file")).byteCount == 3)
  }

  @Test("a lock excludes other processes, even while a file is replaced under its name") func locks() throws {
    let other = try #require(try HeldDirectory.open(directory.path("root")))
    try held.lock()
    let busy = #expect(throws: CheckpointError.self) { try other.lock() }
    #expect(busy?.message == "another process is writing here")
    let journal = try AppendFile(creating: "journal", in: held, bytes: [1])
    #expect(throws: CheckpointError.self) { try AppendFile("journal", in: other) }
    #expect(throws: CheckpointError.self) { try AppendFile(creating: "journal", in: other, bytes: [2]) }
    try journal.append([5])
    let next = try AppendFile(creating: "journal", in: held, bytes: [3], replacing: journal)
    try next.append([4])
    #expect(try InputFile("journal", in: held).readBytes(0..<2) == [3, 4])
    #expect(try held.names() == ["journal", "journal.writing"] || held.names() == ["journal"])
    withExtendedLifetime(journal) {}
  }

  /// Between fork and exec a process holds the files that its parent had open, and their locks.
  @Test("a lock held only by processes that are just starting is waited for") func starting()
    async throws
  {
    try await withThrowingTaskGroup(of: Void.self) { group in
      _ = try AppendFile(creating: "journal", in: held, bytes: [1])
      group.addTask { for _ in 0..<2000 { _ = try AppendFile("journal", in: held) } }
      group.addTask { try await startProcesses() }
      try await group.next()
      group.cancelAll()
    }
  }

  /// Starts one process after the other until it is cancelled.
  private func startProcesses() async throws {
    let arguments: [UnsafeMutablePointer<CChar>?] = [strdup("true"), nil]
    defer { free(arguments[0]) }
    let nothing = open("/dev/null", O_RDONLY | O_CLOEXEC)
    defer { close(nothing) }
    while !Task.isCancelled {
      var process: Int32 = 0
      #expect(cfs_spawn("/usr/bin/true", arguments, nothing, &process) == 0)
      waitpid(process, nil, 0)
      await Task.yield()
    }
  }
}
