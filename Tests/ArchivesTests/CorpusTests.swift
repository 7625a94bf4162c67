import Archives
import ByteStreams
import CheckpointTesting
import Foundation
import TensorFormats
import Testing

/// Archives written from the format's manual, without this toolkit: `Tests/Corpus/make_archives.py`.
@Suite struct ArchiveCorpusTests {
  private static let golden = Fixtures.path("golden/archive")

  private static func names() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: golden).filter { $0.hasSuffix(".zst") }.sorted()
  }

  @Test func everyFileHasAnExpectation() throws {
    let names = try Self.names()
    #expect(names.count >= 9)
    let expected = try MalformedCorpus.cases(in: "archive").map(\.path)
    #expect(expected.count >= 17)
    let entries = try MalformedCorpus.entries(in: "archive")
    #expect(entries == Set(expected))
  }

  @Test(arguments: try names()) func soundArchivesAreRead(name: String) throws {
    let original = try [UInt8](
      Data(contentsOf: URL(filePath: "\(Self.golden)/\(name.dropLast(4)).original")))
    let file = try InputFile("\(Self.golden)/\(name)")
    let source: any ByteSource
    do { source = try ArchiveSource(file) } catch { source = try SequentialZstdSource(file) }
    #expect(source.byteCount == original.count)
    #expect(try source.readBytes(0..<source.byteCount) == original)
    for start in stride(from: 0, to: original.count, by: 700) {
      let range = start..<min(original.count, start + 900)
      #expect(try source.readBytes(range) == Array(original[range]))
    }
  }

  @Test(arguments: try MalformedCorpus.cases(in: "archive"))
  func brokenArchivesAreRefused(_ expected: MalformedCorpus.Case) throws {
    let path = MalformedCorpus.path(of: expected.path, in: "archive")
    let error = #expect(throws: CheckpointError.self) {
      let source = try ArchiveSource(InputFile(path))
      _ = try source.readBytes(0..<source.byteCount)
    }
    #expect(MalformedCorpus.mismatches(of: error, with: expected) == [])
  }
}
