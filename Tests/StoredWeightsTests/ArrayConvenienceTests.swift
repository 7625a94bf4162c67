import Checkpoint
import CheckpointTesting
import StoredWeights
import TensorFormats
import Testing

@Suite("weights as arrays") struct ArrayConvenienceTests {
  @Test func weightsAreReadByName() throws {
    let checkpoint = try Checkpoint.open(Fixtures.path("checkpoints/tiny"))
    let weights = try ModelWeights(checkpoint)
    let name = "model.layers.1.moe.gate.weight"
    let weight = try #require(weights[name])
    #expect(try weights.values(of: name) == weights.values(of: weight))
    let error = #expect(throws: CheckpointError.self) { try weights.values(of: "nothing") }
    #expect(error?.code == .notFound && error?.tensor == "nothing")
    // Of BF16, the values are the upper halves of F32.
    let tensor = try #require(checkpoint[name])
    let bytes = try checkpoint.bytes(of: tensor)
    #expect(bytes.count == tensor.byteRange.count)
    let values = stride(from: 0, to: bytes.count, by: 2).map {
      Float(bitPattern: UInt32(bytes[$0]) << 16 | UInt32(bytes[$0 + 1]) << 24)
    }
    #expect(try weights.values(of: name) == values)
  }
}
