import Checkpoint
import Foundation
import TensorFormats
import Testing

@Suite("A part's record of itself")
struct PartitionRecordTests {
  private static let record = PartitionRecord(
    PartIdentity(
      .ffn, expertParallel: .init(rank: 1, ranks: 2), tensorParallel: .init(rank: 2, ranks: 4),
      routesInFFN: true),
    slices: [
      .init(
        tensor: "a \"quoted\" \\ name",
        box: TensorBox(TensorShape([8, 6, 4]), origin: [4, 0, 1], extent: [4, 6, 1])!),
      .init(tensor: "b", box: TensorBox(TensorShape([8]), origin: [0], extent: [0])!),
    ])

  private func document(_ partition: String) -> ConfigurationDocument {
    ConfigurationDocument(
      Array("{\"model_type\": \"m\", \"step3_partition\": \(partition)}".utf8), path: "/set/part/config.json")
  }

  @Test func recordsAreReadBackAsWritten() throws {
    let read = try #require(try PartitionRecord(document(Self.record.text)))
    #expect(read == Self.record)
    #expect(read.boxes["b"]?.extent == [0])
    let whole = PartitionRecord(
      PartIdentity(.vision, expertParallel: .only, tensorParallel: .only, routesInFFN: false), slices: [])
    #expect(try PartitionRecord(document(whole.text)) == whole)
    #expect(try PartitionRecord(ConfigurationDocument(Array("{}".utf8), path: "x")) == nil)
  }

  @Test func partsHaveStandardNames() {
    #expect(Self.record.identity.position == .init(rank: 6, ranks: 8))
    #expect(Self.record.identity.standardName == "ffn-ep1-tp2")
    #expect(Self.record.identity.name(of: 3) == "ffn-ep0-tp3")
    func name(_ ep: Int, _ tp: Int) -> String {
      PartIdentity(
        .attention, expertParallel: .init(rank: 0, ranks: ep), tensorParallel: .init(rank: 0, ranks: tp),
        routesInFFN: false
      ).standardName
    }
    #expect(name(1, 1) == "attention" && name(1, 2) == "attention-tp0" && name(2, 1) == "attention-ep0")
  }

  @Test(
    "an impossible value is refused with the file and the key",
    arguments: [
      ("\"role\": \"ffn\"", "\"role\": \"model\"", "step3_partition.role"),
      ("\"role\": \"ffn\"", "\"role\": 3", "step3_partition.role"),
      ("\"rank\": 6", "\"rank\": 8", "step3_partition.rank"),
      ("\"rank\": 6", "\"rank\": 5", "step3_partition.expert_parallel"),
      ("\"ranks\": 8", "\"ranks\": 1025", "step3_partition.rank"),
      ("\"ranks\": 4", "\"ranks\": 9223372036854775807", "step3_partition.expert_parallel"),
      ("\"router\": \"ffn\"", "\"router\": \"both\"", "step3_partition.router"),
      ("\"origin\": [4, 0, 1]", "\"origin\": [5, 0, 1]", "step3_partition.slices"),
      ("\"origin\": [4, 0, 1]", "\"origin\": [-1, 0, 1]", "step3_partition.slices"),
      ("\"extent\": [4, 6, 1]", "\"extent\": [4, 6]", "step3_partition.slices"),
      ("\"extent\": [4, 6, 1]", "\"extent\": [4, 6, 1.5]", "step3_partition.slices"),
      ("\"extent\": [4, 6, 1]", "\"size\": [4, 6, 1]", "step3_partition.slices"),
      ("\"shape\": [8, 6, 4]", "\"shape\": [8, 6, -4]", "step3_partition.slices"),
      ("\"shape\": [8, 6, 4]", "\"shape\": [4294967296, 4294967296, 4]", "step3_partition.slices"),
      ("\"slices\": {", "\"slices\": {\"c\": 7, ", "step3_partition.slices"),
      ("\"slices\": {", "\"pieces\": {", "step3_partition.slices"),
    ])
  func malformed(old: String, new: String, key: String) {
    let text = Self.record.text.replacing(old, with: new, maxReplacements: 1)
    #expect(text != Self.record.text)
    let error = #expect(throws: CheckpointError.self) { try PartitionRecord(document(text)) }
    #expect(error?.code == .malformed && error?.path == "/set/part/config.json", "\(text)")
    #expect(error?.message.contains(key) == true, "\(error.map(String.init(describing:)) ?? "")")
    #expect(error?.remedy != nil)
  }

  @Test func unknownValuesAreRefused() {
    for value in ["null", "[]", "\"ffn\"", "{}", "1"] {
      let error = #expect(throws: CheckpointError.self) { try PartitionRecord(document(value)) }
      #expect(error?.message.contains("step3_partition") == true)
    }
  }
}
