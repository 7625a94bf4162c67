import ByteStreams
import CheckpointTesting
import GGUF
import TensorFormats
import Testing

@Suite struct CorpusTests {
  @Test func theCorpusIsThere() throws {
    let expected = try MalformedCorpus.cases(in: "gguf").map(\.path)
    #expect(expected.count >= 90)
    // No file and no folder without a verdict, and none of the other way round.
    let entries = Set(expected.map { path in String(path.prefix { $0 != "/" }) })
    #expect(try MalformedCorpus.entries(in: "gguf") == entries)
  }

  @Test(arguments: try MalformedCorpus.cases(in: "gguf"))
  func isRefused(_ expected: MalformedCorpus.Case) throws {
    let path = MalformedCorpus.path(of: expected.path, in: "gguf")
    let error = #expect(throws: CheckpointError.self) { try GGUFSplitSet.read(firstPart: path) }
    #expect(MalformedCorpus.mismatches(of: error, with: expected) == [])
    #expect(error?.path?.hasPrefix(Fixtures.path("malformed/gguf/")) == true)
    // Offsets are part of every error about bytes; those about files of a split model have none.
    if !expected.path.contains("/") { #expect(error?.offset != nil) }
  }
}
