import ByteStreams
import CheckpointTesting
import Safetensors
import TensorFormats
import Testing

@Suite struct IndexTests {
  @Test(arguments: ["tiny", "odd", "tiny-fp8", "odd-fp8"])
  func agreesWithTheFixtures(checkpoint: String) throws {
    let folder = Fixtures.path("checkpoints/\(checkpoint)")
    let file = try InputFile("\(folder)/model.safetensors.index.json")
    let index = try SafetensorsIndex.read(from: file)
    #expect(index.shardNames == (1...4).map { "model-0000\($0)-of-00004.safetensors" })
    var shards: [String: SafetensorsHeader] = [:]
    for name in index.shardNames {
      shards[name] = try SafetensorsHeader.read(from: InputFile("\(folder)/\(name)"))
    }
    #expect(ShardedSafetensors.issues(index: index, shards: shards) == [])
    #expect(try SafetensorsIndex.parse(index.serialized().span.bytes) == index)
  }

  @Test(arguments: [
    ("16", 16), ("16.0", 16), ("1.6e1", 16), ("160e-1", 16), ("0", 0), ("9223372036854775807", Int.max),
    ("9007199254740991.0", 9_007_199_254_740_991),
  ])
  func readsTotalSize(text: String, value: Int) throws {
    #expect(try index(#"{"metadata":{"total_size":\#(text)},"weight_map":{}}"#).totalSize == value)
  }

  @Test(arguments: [
    "16.5", "-1", "-1.0", "9223372036854775808", "1e300", "9007199254740992.0", "1e-400x", "+1", ".5", "1.",
  ])
  func refusesOtherTotalSizes(text: String) {
    let error = failure { () throws(CheckpointError) in
      _ = try index(#"{"metadata":{"total_size":\#(text)},"weight_map":{}}"#)
    }
    #expect(error?.code == .malformed)
    #expect((26...33).contains(error?.offset ?? 0))
  }

  @Test(arguments: [
    #"{"weight_map":{}}"#, #"{"weight_map":{},"metadata":null}"#, #"{"weight_map":{},"metadata":{}}"#,
    #"{"other":[1,{"a":null}],"weight_map":{},"metadata":{"total_parameters":7,"x":{"y":[]}}}"#,
  ])
  func doesWithoutTotalSize(text: String) throws {
    #expect(try index(text) == SafetensorsIndex(weightMap: [:], totalSize: nil))
  }

  /// The output of Python's `json.dumps(index, indent=2, sort_keys=True) + "\n"`.
  @Test func writesWhatTransformersWrites() throws {
    let map = ["b": "s2", "a.10": "s1", "a.9": "s1", "é\"\\\u{7f}\n🎛": "s2", "\u{ff5e}": "s1"]
    let text = String(
      decoding: try SafetensorsIndex(weightMap: map, totalSize: 12).serialized(), as: UTF8.self)
    #expect(
      text == #"""
        {
          "metadata": {
            "total_size": 12
          },
          "weight_map": {
            "a.10": "s1",
            "a.9": "s1",
            "b": "s2",
            "\u00e9\"\\\u007f\n\ud83c\udf9b": "s2",
            "\uff5e": "s1"
          }
        }

        """#)
    let empty = String(
      decoding: try SafetensorsIndex(weightMap: [:], totalSize: nil).serialized(), as: UTF8.self)
    #expect(empty == "{\n  \"metadata\": {},\n  \"weight_map\": {}\n}\n")
  }

  @Test(arguments: [
    "a", "model-00001-of-00002.safetensors", "...", "a..b", "-", "~", "漢", String(repeating: "m", count: 255),
  ])
  func allowsPlainShardNames(name: String) throws {
    try SafetensorsIndex.checkShardName(name)
    #expect(try index(#"{"weight_map":{"t":"\#(name)"}}"#).shardNames == [name])
  }

  @Test(arguments: [
    "", ".", "..", "/", "/a", "a/", "a/b", "../a", "a\\b", "\\\\host\\a", "a\0",
    String(repeating: "é", count: 128),
  ])
  func refusesOtherShardNames(name: String) {
    #expect(throws: CheckpointError.self) { try SafetensorsIndex.checkShardName(name) }
    #expect(throws: CheckpointError.self) { try SafetensorsIndex(weightMap: ["t": name], totalSize: nil) }
  }

  @Test func limitsTheFile() {
    struct Huge: ByteSource {
      var path: String { "huge.index.json" }
      var byteCount: Int { SafetensorsIndex.maximumByteCount + 1 }
      func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
        Issue.record("nothing should be read")
      }
    }
    let error = failure { () throws(CheckpointError) in _ = try SafetensorsIndex.read(from: Huge()) }
    #expect(error?.code == .unsupported)
    #expect(error?.path == "huge.index.json")
  }
}

@Suite struct ShardedSafetensorsTests {
  private func header(_ names: String...) throws -> SafetensorsHeader {
    try SafetensorsLayout(names.map { Item(name: $0, elementType: .u8, shape: TensorShape([4])) }).header
  }

  private func issues(
    _ map: [String: String], _ shards: [String: SafetensorsHeader], totalSize: Int? = nil
  ) throws -> [ShardedSafetensors.Issue] {
    ShardedSafetensors.issues(
      index: try SafetensorsIndex(weightMap: map, totalSize: totalSize), shards: shards)
  }

  @Test func findsNothingInASoundCheckpoint() throws {
    let shards = ["1": try header("a", "b"), "2": try header("c")]
    #expect(try issues(["a": "1", "b": "1", "c": "2"], shards, totalSize: 12) == [])
    #expect(try issues(["a": "1", "b": "1", "c": "2"], shards) == [])
  }

  @Test func findsAMissingShard() throws {
    let issue = try #require(
      try issues(["a": "1", "b": "2", "c": "2"], ["1": header("a")], totalSize: 12).only)
    #expect(issue.code == .missingShard && issue.severity == .error)
    #expect(issue.shard == "2" && issue.tensor == nil)
    #expect(issue.message.contains("2 tensors"))
    #expect(issue.error.code == .notFound && issue.error.path == "2")
  }

  @Test func findsAMissingTensor() throws {
    let issue = try #require(try issues(["a": "1", "b": "1"], ["1": header("a")]).only)
    #expect(issue.code == .missingTensor && issue.severity == .error)
    #expect(issue.shard == "1" && issue.tensor == "b")
    #expect(issue.error.code == .malformed && issue.error.tensor == "b")
  }

  @Test func saysWhereAMissingTensorIs() throws {
    let found = try issues(
      ["a": "1", "b": "1", "c": "2"], ["1": header("a"), "2": header("b", "c")], totalSize: 12)
    #expect(found.only?.message.contains("but shard '2' does") == true)
  }

  @Test func findsATensorInTwoShards() throws {
    let issue = try #require(
      try issues(["a": "1", "b": "2"], ["1": header("a"), "2": header("a", "b")]).only)
    #expect(issue.code == .duplicateTensor && issue.severity == .error)
    #expect(issue.shard == "2" && issue.tensor == "a")
    #expect(issue.message.contains("'1'"))
  }

  @Test func findsATensorThatIsNotInTheIndex() throws {
    let issue = try #require(try issues(["a": "1"], ["1": header("a", "b")]).only)
    #expect(issue.code == .unindexedTensor && issue.severity == .warning)
    #expect(issue.shard == "1" && issue.tensor == "b")
  }

  @Test func findsAShardThatIsNotInTheIndex() throws {
    let issue = try #require(
      try issues(["a": "1"], ["1": header("a"), "all": header("a", "b")], totalSize: 4).only)
    #expect(issue.code == .unindexedShard && issue.severity == .warning)
    #expect(issue.shard == "all" && issue.tensor == nil)
  }

  @Test func findsAnotherTotalSize() throws {
    let issue = try #require(try issues(["a": "1"], ["1": header("a")], totalSize: 5).only)
    #expect(issue.code == .totalSizeMismatch && issue.severity == .warning)
    #expect(issue.message.contains("is 5") && issue.message.contains("4 bytes"))
  }

  @Test func skipsTheTotalSizeWhenAShardIsMissing() throws {
    #expect(try issues([:], [:], totalSize: 18).only?.code == .totalSizeMismatch)
    #expect(try issues([:], [:], totalSize: 0) == [])
    // With a shard missing there is no sum to compare with.
    #expect(try issues(["a": "1"], [:], totalSize: 18).only?.code == .missingShard)
  }

  @Test func sortsIssues() throws {
    let shards = ["2": try header("x", "b"), "1": try header("y", "x", "w"), "0": try header()]
    let map = ["p": "2", "q": "1", "r": "3", "b": "2", "a": "4", "x": "1"]
    let codes = try issues(map, shards, totalSize: 1).map {
      "\($0.code) \($0.shard ?? "-") \($0.tensor ?? "-")"
    }
    #expect(
      codes == [
        "missingShard 3 -", "missingShard 4 -", "missingTensor 1 q", "missingTensor 2 p",
        "duplicateTensor 2 x",
        "unindexedTensor 1 w", "unindexedTensor 1 y", "unindexedShard 0 -",
      ])
  }
}

extension Array {
  /// The only element of an array.
  fileprivate var only: Element? { count == 1 ? first : nil }
}
