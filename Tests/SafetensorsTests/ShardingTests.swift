import Safetensors
import TensorFormats
import Testing

@Suite struct ShardingTests {
  private func items(_ sizes: Int...) -> [Item] {
    sizes.enumerated().map { Item(name: "t\($0)", elementType: .u8, shape: TensorShape([$1])) }
  }

  @Test func dividesBySize() throws {
    let sharding = try SafetensorsSharding(items(4, 4, 3, 0, 10, 25, 1, 9), maximumByteCount: 10)
    #expect(
      sharding.shards.map { $0.layout.header.tensors.map(\.name) } == [
        ["t0", "t1"], ["t2", "t3"], ["t4"], ["t5"], ["t6", "t7"],
      ])
    #expect(sharding.shards.map(\.fileName) == (1...5).map { "model-0000\($0)-of-00005.safetensors" })
    #expect(sharding.index.totalSize == 56)
    #expect(sharding.index.weightMap["t5"] == "model-00004-of-00005.safetensors")
    let shards = Dictionary(uniqueKeysWithValues: sharding.shards.map { ($0.fileName, $0.layout.header) })
    #expect(ShardedSafetensors.issues(index: sharding.index, shards: shards) == [])
  }

  @Test func namesASingleFileWithoutNumbers() throws {
    for items in [items(), items(4, 6)] {
      let sharding = try SafetensorsSharding(items, maximumByteCount: 10)
      #expect(sharding.shards.map(\.fileName) == ["model.safetensors"])
    }
    #expect(
      SafetensorsSharding.fileName(prefix: "m", number: 7, count: 123_456) == "m-00007-of-123456.safetensors")
  }

  @Test func passesOptionsOn() throws {
    let sharding = try SafetensorsSharding(
      items(4, 4, 9).reversed(), maximumByteCount: 9, metadata: ["format": "pt"], order: .asGiven,
      alignment: 4096,
      prefix: "ffn")
    #expect(
      sharding.shards.map(\.fileName) == ["ffn-00001-of-00002.safetensors", "ffn-00002-of-00002.safetensors"])
    #expect(sharding.shards[1].layout.header.tensors.map(\.name) == ["t1", "t0"])
    #expect(sharding.shards.allSatisfy { $0.layout.header.dataOffset == 4096 })
    #expect(sharding.shards.allSatisfy { $0.layout.header.metadata == ["format": "pt"] })
  }

  @Test func refusesWhatCannotBeWritten() {
    func refusal(_ items: [Item], _ limit: Int = 4, prefix: String = "model") -> CheckpointError? {
      failure { () throws(CheckpointError) in
        _ = try SafetensorsSharding(items, maximumByteCount: limit, prefix: prefix)
      }
    }
    #expect(refusal(items(1)) == nil)
    #expect(refusal(items(4, 4) + items(4))?.message == "the name appears twice")
    #expect(refusal(items(1), 0)?.code == .invalidRequest)
    #expect(refusal(items(1), prefix: "../model")?.code == .invalidRequest)
    #expect(refusal(items(.max / 2, .max / 2, .max / 2))?.code == .invalidRequest)
    #expect(refusal([Item(name: "a", elementType: .q4K, shape: TensorShape([256]))])?.code == .unsupported)
  }
}
