import ByteStreams
import CheckpointTesting
import GGUF
import TensorFormats
import Testing

@Suite struct CorpusTests {
  @Test func everyFileHasAnExpectation() throws {
    let expected = try MalformedCorpus.cases(in: "gguf").map(\.path)
    #expect(expected.count >= 90)
    // Every file and folder has an expectation, and the reverse.
    let entries = Set(expected.map { path in String(path.prefix { $0 != "/" }) })
    #expect(try MalformedCorpus.entries(in: "gguf") == entries)
  }

  @Test(arguments: try MalformedCorpus.cases(in: "gguf"))
  func malformedFilesAreRefused(_ expected: MalformedCorpus.Case) throws {
    let path = MalformedCorpus.path(of: expected.path, in: "gguf")
    let error = #expect(throws: CheckpointError.self) { try GGUFSplitSet.read(firstPart: path) }
    #expect(MalformedCorpus.mismatches(of: error, with: expected) == [])
    #expect(error?.path?.hasPrefix(Fixtures.path("malformed/gguf/")) == true)
    // Every error about bytes has an offset; errors about the files of a split model have none.
    if !expected.path.contains("/") { #expect(error?.offset != nil) }
  }
}
