import ByteStreams
import CheckpointTesting
import Foundation
import TensorFormats
import Testing

@Suite struct DigestTests {
  // sha256sum and xxhsum -H2 of the three bytes "abc".
  @Test func digestsAreThePublishedOnes() {
    var sha = SHA256Digester()
    var xxh = XXH3Digester()
    let bytes = Array("abc".utf8)
    sha.update(bytes.span.bytes)
    xxh.update(bytes.span.bytes)
    #expect("\(sha.finalize())" == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    #expect("\(xxh.finalize())" == "06b05ab6733a618578af5f94892f3950")
    #expect(Digest(hexadecimal: "0aFF")?.bytes == [10, 255])
    #expect(Digest(hexadecimal: "0aF") == nil)
    #expect(Digest(hexadecimal: "zz") == nil)
  }

  // The results of libxxhash's plain `XXH3_128bits` and coreutils' `sha256sum` for 1,000,003 bytes: long inputs take other
  // paths through XXH3, one per vector width.
  @Test(arguments: [1, 63, 64, 255, 256, 257, 1_024, 65_536, 1_000_003])
  func longInputInPiecesHasTheKnownDigests(_ pieceLength: Int) {
    var state: UInt32 = 1
    let bytes = (0..<1_000_003).map { _ -> UInt8 in
      state = state &* 1_664_525 &+ 1_013_904_223
      return UInt8(truncatingIfNeeded: state >> 24)
    }
    var sha = SHA256Digester()
    var xxh = XXH3Digester()
    for start in stride(from: 0, to: bytes.count, by: pieceLength) {
      let piece = bytes[start..<min(start + pieceLength, bytes.count)]
      sha.update(piece.span.bytes)
      xxh.update(piece.span.bytes)
    }
    #expect("\(xxh.finalize())" == "32df120815fce3229031a6121d217151")
    #expect("\(sha.finalize())" == "8d852d9585f74a3fd542f441add50a1c91727176cbbe8ac611716d200d9e7083")
  }
}

@Suite struct FileSystemTests {
  @Test func filesAreWrittenListedAndReadBack() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path("sub")
    try FileSystem.createDirectory(path)
    try FileSystem.createDirectory(path)
    let bytes: [UInt8] = [1, 2, 3]
    try FileSystem.writeAtomically(bytes, to: path + "/b")
    try FileSystem.writeAtomically([], to: path + "/a")
    #expect(try FileSystem.names(in: path) == ["a", "b"])
    try #expect(FileSystem.kind(of: path) == .directory)
    try #expect(FileSystem.size(of: path + "/b") == 3)
    #expect(try InputFile(path + "/b").readBytes(1..<3) == [2, 3])
    try FileSystem.removeFile(path + "/b")
    try FileSystem.removeFile(path + "/b")
    try #expect(FileSystem.kind(of: path + "/b") == nil)
    // Names that no file can have.
    try #expect(FileSystem.kind(of: String(repeating: "a", count: 5000)) == nil)
    try #expect(FileSystem.kind(of: path + "/no/such") == nil && !FileSystem.isTaken(path + "/no/such"))
    #expect((FileSystem.freeSpace(at: path) ?? 0) > 0)
  }

  @Test func errorsNameTheCauseAndThePath() throws {
    let directory = try TemporaryDirectory()
    let missing = directory.path("missing")
    #expect(throws: CheckpointError.self) { try InputFile(missing) }
    let error = #expect(throws: CheckpointError.self) { try InputFile(directory.path) }
    #expect(error?.code == .notFound)
    #expect(error?.message == "is not a regular file")
    try FileSystem.writeAtomically([7, 7], to: missing)
    let file = try InputFile(missing)
    let beyond = #expect(throws: CheckpointError.self) { try file.readBytes(1..<3) }
    #expect(beyond?.code == .truncated)
    let exists = #expect(throws: CheckpointError.self) { try OutputFile(missing, byteCount: 1) }
    #expect(exists?.code == .cannotCreate)
    #expect(exists?.description.contains(missing) == true)
  }

  @Test("a pipe is refused at once instead of being waited for") func pipe() throws {
    let directory = try TemporaryDirectory()
    #expect(mkfifo(directory.path("pipe"), 0o600) == 0)
    let error = #expect(throws: CheckpointError.self) { try InputFile(directory.path("pipe")) }
    #expect(error?.message == "is not a regular file")
  }
}

/// What a file system reports about an open file.
@Suite struct SourceChangeTests {
  private let directory: TemporaryDirectory
  private let path: String

  init() throws {
    directory = try TemporaryDirectory()
    path = directory.path("file")
    try Data(repeating: 7, count: 100).write(to: URL(filePath: path))
  }

  private func change(_ body: () throws -> Void) throws -> SourceChange? {
    let file = try InputFile(path)
    try #expect(file.change == nil)
    // Reading is not a change.
    _ = try file.readBytes(0..<100)
    try #expect(file.change == nil)
    try body()
    try #expect(MeteredSource(file, meter: Meter()).change == file.change)
    return try file.change
  }

  @Test func writesAndTruncationChangeTheContent() throws {
    let handle = try #require(FileHandle(forUpdatingAtPath: path))
    #expect(try change { try handle.write(contentsOf: Data([1])) } == .content)
    #expect(try change { try handle.truncate(atOffset: 50) } == .content)
  }

  @Test("a write with the time set back is seen as a change of status, like a change of names or modes")
  func otherChanges() throws {
    let files = FileManager.default
    #expect(try change { try files.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path) } == .status)
    #expect(try change { try files.linkItem(atPath: path, toPath: directory.path("other")) } == .status)
    let date = try #require(try files.attributesOfItem(atPath: path)[.modificationDate] as? Date)
    let whole = Date(timeIntervalSince1970: date.timeIntervalSince1970.rounded())
    try files.setAttributes([.modificationDate: whole], ofItemAtPath: path)
    let handle = try #require(FileHandle(forUpdatingAtPath: path))
    #expect(
      try change {
        try handle.write(contentsOf: Data([1]))
        try files.setAttributes([.modificationDate: whole], ofItemAtPath: path)
      } == .status)
  }

  @Test("a replacement under the same name is noticed") func replacement() throws {
    #expect(
      try change {
        try FileManager.default.removeItem(atPath: path)
        try Data(repeating: 8, count: 100).write(to: URL(filePath: path))
      } == .status)
  }
}
