import ByteStreams
import CheckpointTesting
import Safetensors
import TensorFormats
import Testing

@Suite struct MalformedSafetensorsTests {
  @Test(arguments: try MalformedCorpus.cases(in: "safetensors"))
  func refusesAMalformedFile(expected: MalformedCorpus.Case) throws {
    let path = MalformedCorpus.path(of: expected.path, in: "safetensors")
    let error = failure { () throws(CheckpointError) in
      _ = try SafetensorsHeader.read(from: try InputFile(path))
    }
    #expect(MalformedCorpus.mismatches(of: error, with: expected) == [])
    #expect(error?.path == path)
  }

  @Test(arguments: try MalformedCorpus.cases(in: "index"))
  func refusesAMalformedShardedCheckpoint(expected: MalformedCorpus.Case) throws {
    let folder = MalformedCorpus.path(of: expected.path, in: "index")
    let error = failure { () throws(CheckpointError) in try open(folder) }
    #expect(MalformedCorpus.mismatches(of: error, with: expected) == [])
  }

  @Test(arguments: ["safetensors", "index"])
  func coversTheWholeCorpus(folder: String) throws {
    let expected = Set(try MalformedCorpus.cases(in: folder).map(\.path))
    #expect(try MalformedCorpus.entries(in: folder) == expected)
    #expect(expected.count >= (folder == "index" ? 12 : 40))
  }

  /// Opens a folder as a sharded checkpoint and throws the first error.
  private func open(_ folder: String) throws(CheckpointError) {
    let file = try InputFile("\(folder)/model.safetensors.index.json")
    let index = try SafetensorsIndex.read(from: file)
    var shards: [String: SafetensorsHeader] = [:]
    for name in index.shardNames {
      let shard: InputFile
      do throws(CheckpointError) {
        shard = try InputFile("\(folder)/\(name)")
      } catch {
        // Left out: the comparison reports it.
        continue
      }
      shards[name] = try SafetensorsHeader.read(from: shard)
    }
    let issues = ShardedSafetensors.issues(index: index, shards: shards)
    if let issue = issues.first(where: { $0.severity == .error }) { throw issue.error }
  }
}
