import CheckpointTesting
import Foundation
import Testing

/// `step3-inspect list` on the whole corpus of malformed files.
@Suite("step3-inspect on malformed files") struct InspectCorpusTests {
  /// A case and the corpus it belongs to.
  struct Broken: CustomStringConvertible, Sendable {
    let corpus: String
    let expected: MalformedCorpus.Case
    var description: String { "\(corpus)/\(expected.path)" }

    static func all() throws -> [Broken] {
      try ["safetensors", "index", "gguf"].flatMap { corpus in
        try MalformedCorpus.cases(in: corpus).map { Broken(corpus: corpus, expected: $0) }
      }
    }

    /// The path to pass to the tool: a file, or a folder of shards.
    var path: String { MalformedCorpus.path(of: expected.path, in: corpus) }

    /// The exit code that the error's category asks for.
    var exitCode: Int32? {
      switch expected.code {
      case "malformed", "truncated", "unsupported": 65
      case "notFound": 66
      case "invalidRequest": 64
      default: nil
      }
    }
  }

  @Test func theCorpusIsComplete() throws {
    #expect(try Broken.all().count >= 200)
  }

  // One test for all cases, because each starts a process: hundreds at once would starve the other tests.
  @Test func everyFileGivesOneLineThatNamesIt() throws {
    for broken in try Broken.all() {
      let result = try runTool("step3-inspect", ["list", broken.path])
      // Named .safetensors, but a GGUF by content, which is what counts: a GGUF without tensors.
      if broken.expected.path == "gguf-magic.safetensors" {
        #expect(result.status == 0)
        continue
      }
      #expect(result.status == broken.exitCode, "\(broken): \(result.error)")
      #expect(result.output.isEmpty, "\(broken) gives results")
      let lines = result.error.split(separator: "\n", omittingEmptySubsequences: false)
      #expect(lines.count == 2 && lines.last == "", "\(broken): \(result.error)")
      // In a broken set another shard or part may be at fault.
      let isSet = broken.corpus == "index" || broken.expected.path.contains("/")
      let named =
        broken.corpus == "index" || !isSet
        ? broken.path : URL(filePath: broken.path).deletingLastPathComponent().path
      #expect(result.error.hasPrefix("step3-inspect: error: \(named)"), "\(broken): \(result.error)")
    }
  }
}
