import CheckpointTesting
import Foundation
import Quantization
import TensorFormats
import Testing

@Suite struct BlockFP8Tests {
  typealias Encoded = (codes: [UInt8], scales: [Float], sums: ErrorSums)

  static func encode(
    _ format: BlockFP8, _ source: [UInt8], _ type: ElementType, matrices: Int, tier: KernelTier = .active,
    firstRow: Int = 0
  ) throws -> Encoded {
    var codes = [UInt8](repeating: 0, count: matrices * format.rows * format.columns)
    var scales = [Float](repeating: 0, count: matrices * format.scaleCount)
    var scratch = BlockFP8.Scratch()
    let sums: ErrorSums
    do {
      var codeSpan = codes.mutableSpan
      var raw = codeSpan.mutableBytes
      var scaleSpan = scales.mutableSpan
      sums = try format.encode(
        source.span.bytes, from: type, codes: &raw, scales: &scaleSpan, scratch: &scratch, firstRow: firstRow,
        tier: tier)
    }
    return (codes, scales, sums)
  }

  static func encodeReference(_ format: BlockFP8, _ values: [Float], matrices: Int) throws -> Encoded {
    var codes = [UInt8](repeating: 0, count: values.count)
    var scales = [Float](repeating: 0, count: matrices * format.scaleCount)
    do {
      var codeSpan = codes.mutableSpan
      var raw = codeSpan.mutableBytes
      var scaleSpan = scales.mutableSpan
      try format.encodeReference(values.span, codes: &raw, scales: &scaleSpan)
    }
    return (codes, scales, ErrorSums())
  }

  static func bytes(_ values: [Float]) -> [UInt8] {
    values.flatMap { value -> [UInt8] in
      let bits = value.bitPattern
      return [UInt8(bits & 255), UInt8(bits >> 8 & 255), UInt8(bits >> 16 & 255), UInt8(bits >> 24)]
    }
  }

  @Test(arguments: [(1, 1, 1), (130, 257, 2), (128, 128, 1), (127, 129, 3), (300, 16, 1)])
  func tiersAgreeWithTheDefinition(rows: Int, columns: Int, matrices: Int) throws {
    let format = try BlockFP8(rows: rows, columns: columns)
    let values = RowKind.rows(rows * matrices, columns: columns, seed: 31)
    let expected = try Self.encodeReference(format, values, matrices: matrices)
    var restored = [Float](repeating: 0, count: values.count)
    do {
      var span = restored.mutableSpan
      try format.decodeReference(expected.codes.span.bytes, scales: expected.scales.span, into: &span)
    }
    let reference = ErrorSums.reference(original: values.span, restored: restored.span)
    for tier in KernelTier.runnable {
      let found = try Self.encode(format, Self.bytes(values), .f32, matrices: matrices, tier: tier)
      #expect(found.codes == expected.codes, "\(tier)")
      #expect(found.scales == expected.scales, "\(tier)")
      #expect(found.sums.count == values.count)
      #expect(found.sums.maximumAbsoluteError == reference.maximumAbsoluteError)
      #expect(abs(found.sums.rmse - reference.rmse) <= reference.rmse * 1e-12)
      var decoded = [Float](repeating: 0, count: values.count)
      do {
        var span = decoded.mutableSpan
        try format.decode(expected.codes.span.bytes, scales: expected.scales.span, into: &span, tier: tier)
      }
      #expect(decoded == restored, "\(tier)")
    }
  }

  /// The FP8 fixture was made by PyTorch from the BF16 one, with shapes [R, C] and [E, R, C] that tiles do not divide.
  @Test func agreesWithTheFixtureCheckpoints() throws {
    let plain = try Self.checkpoint("odd")
    let quantized = try Self.checkpoint("odd-fp8")
    var compared = 0
    for (name, weight) in quantized where weight.type == "F8_E4M3" {
      let original = try #require(plain[name])
      let scales = ReferenceVectors.floats(try #require(quantized[name + "_scale_inv"]).data)
      #expect(original.type == "BF16" && original.shape == weight.shape)
      let rows = weight.shape[weight.shape.count - 2]
      let columns = weight.shape[weight.shape.count - 1]
      let format = try BlockFP8(rows: rows, columns: columns)
      let matrices = weight.shape.dropLast(2).reduce(1, *)
      let found = try Self.encode(format, [UInt8](original.data), .bf16, matrices: matrices)
      #expect(found.codes == [UInt8](weight.data), "\(name)")
      #expect(found.scales == scales, "\(name)")

      // Rows from the middle of the stack: code times scale, looked up independently.
      let firstRow = rows / 3
      let codes = [UInt8](weight.data)[(firstRow * columns)...]
      var values = [Float](repeating: 0, count: codes.count)
      do {
        var span = values.mutableSpan
        try format.decode(Array(codes).span.bytes, scales: scales.span, firstRow: firstRow, into: &span)
      }
      let table = ReferenceVectors.floats(Data(try FlatEightBitTests.golden("F8_E4M3.values")))
      let across = (columns + 127) / 128
      let down = (rows + 127) / 128
      let wrong = codes.indices.first { at in
        let row = at / columns
        let scale = scales[(row / rows * down + row % rows / 128) * across + at % columns / 128]
        return values[at - firstRow * columns] != table[Int(codes[at])] * scale
      }
      #expect(wrong == nil, "\(name)")
      compared += 1
    }
    #expect(compared >= 20)
  }

  static func checkpoint(_ name: String) throws -> [String: (type: String, shape: [Int], data: Data)] {
    var tensors: [String: (type: String, shape: [Int], data: Data)] = [:]
    for shard in 1...4 {
      tensors.merge(
        try ReferenceVectors.tensors(in: "checkpoints/\(name)/model-0000\(shard)-of-00004.safetensors")
      ) { first, _ in first }
    }
    return tensors
  }

  @Test func bandsOf128RowsGiveTheSame() throws {
    let columns = 200
    let values = RowKind.rows(300, columns: columns, seed: 6)
    let whole = try Self.encode(
      try BlockFP8(rows: 300, columns: columns), Self.bytes(values), .f32, matrices: 1)
    var codes: [UInt8] = []
    var scales: [Float] = []
    for first in stride(from: 0, to: 300, by: 128) {
      let rows = min(128, 300 - first)
      let band = Array(values[(first * columns)..<((first + rows) * columns)])
      let part = try Self.encode(
        try BlockFP8(rows: rows, columns: columns), Self.bytes(band), .f32, matrices: 1)
      codes += part.codes
      scales += part.scales
    }
    #expect(codes == whole.codes)
    #expect(scales == whole.scales)
  }

  @Test func zeroTilesHaveAScale() throws {
    let format = try BlockFP8(rows: 2, columns: 3)
    let found = try Self.encode(format, [UInt8](repeating: 0, count: 24), .f32, matrices: 1)
    #expect(found.codes == [0, 0, 0, 0, 0, 0])
    #expect(found.scales == [Float(1e-12) / 448])
    #expect(found.sums.squaredErrors == 0)
  }

  @Test func badInputIsRefused() throws {
    #expect(throws: CheckpointError.self) { try BlockFP8(rows: 0, columns: 3) }
    #expect(throws: CheckpointError.self) { try BlockFP8(rows: .max, columns: 3) }
    let format = try BlockFP8(rows: 130, columns: 130)
    var values = [Float](repeating: 1, count: 130 * 130)
    values[129 * 130 + 128] = -.infinity
    let error = #expect(throws: CheckpointError.self) {
      try Self.encode(format, Self.bytes(values), .f32, matrices: 1, firstRow: 10)
    }
    #expect(error?.code == .nonFinite)
    #expect(error?.message.contains("row 139, column 128 is -infinity") == true)
    #expect(throws: CheckpointError.self) { try Self.encode(format, [1, 2, 3], .f32, matrices: 1) }
    #expect(throws: CheckpointError.self) {
      try Self.encode(format, [UInt8](repeating: 0, count: 130 * 130), .q8_0, matrices: 1)
    }
    var out = [Float](repeating: 0, count: 130)
    var span = out.mutableSpan
    let codes = [UInt8](repeating: 0, count: 130)
    let scales: [Float] = [1, 1, 1, 1]
    #expect(throws: CheckpointError.self) {
      try format.decode(codes.span.bytes, scales: scales.span, firstRow: 130, into: &span)
    }
  }
}
