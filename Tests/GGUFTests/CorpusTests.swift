import ByteStreams
import CheckpointTesting
import Foundation
import GGUF
import TensorFormats
import Testing

/// One broken file and how it must be refused.
private struct MalformedCase: Decodable, CustomTestStringConvertible {
  var path: String
  var code: String
  var message: String
  var offset: Int?
  var tensor: String?

  var testDescription: String { path }

  static let all: [MalformedCase] = {
    let list = Fixtures.path("malformed/gguf/expected.json")
    guard let data = FileManager.default.contents(atPath: list) else { return [] }
    return (try? JSONDecoder().decode([MalformedCase].self, from: data)) ?? []
  }()
}

@Suite struct CorpusTests {
  @Test func theCorpusIsThere() throws {
    #expect(MalformedCase.all.count >= 90)
    // No file without a verdict.
    let folder = Fixtures.path("malformed/gguf")
    let files = try FileManager.default.subpathsOfDirectory(atPath: folder).filter {
      !$0.contains("/") && $0.hasSuffix(".gguf")
    }
    #expect(Set(files).isSubset(of: Set(MalformedCase.all.map(\.path))))
  }

  @Test(arguments: MalformedCase.all)
  fileprivate func isRefused(_ expected: MalformedCase) throws {
    let path = Fixtures.path("malformed/gguf/\(expected.path)")
    let error = try #require(throws: CheckpointError.self) { try GGUFSplitSet.read(firstPart: path) }
    #expect(error.code.rawValue == expected.code, "\(error)")
    #expect(error.message.contains(expected.message), "\(error)")
    #expect(error.path?.hasPrefix(Fixtures.path("malformed/gguf/")) == true, "\(error)")
    if let offset = expected.offset { #expect(error.offset == offset, "\(error)") }
    if let tensor = expected.tensor { #expect(error.tensor == tensor, "\(error)") }
    // Offsets are part of every error about bytes; those about files of a split model have none.
    if !expected.path.contains("/") { #expect(error.offset != nil, "\(error)") }
  }
}
