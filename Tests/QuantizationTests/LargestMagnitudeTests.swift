import CheckpointTesting
import Quantization
import TensorFormats
import Testing

@Suite struct LargestMagnitudeTests {
  static func bytes(_ values: [Float], _ type: ElementType) -> [UInt8] {
    values.flatMap { value -> [UInt8] in
      let all = (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> (8 * $0)) }
      return type == .bf16 ? Array(all.suffix(2)) : all
    }
  }

  static func rows(_ values: [Float], _ type: ElementType, rows: Int, tier: KernelTier) throws -> [Float] {
    var magnitudes = [Float](repeating: -1, count: rows)
    var span = magnitudes.mutableSpan
    try LargestMagnitude.rows(bytes(values, type).span.bytes, type: type, into: &span, tier: tier)
    return magnitudes
  }

  /// Rows of every kind, with the largest value in every position.
  @Test(arguments: [ElementType.f32, .bf16], [1, 2, 31, 64, 65, 200])
  func theLargestIsFoundInEveryPosition(type: ElementType, columns: Int) throws {
    let count = RowKind.allCases.count
    var values = RowKind.rows(count + columns, columns: columns, seed: 41)
    for i in 0..<columns { values[(count + i) * columns + i] = i % 2 == 0 ? 3e38 : -3e38 }
    if type == .bf16 { values = values.map { Float(bitPattern: $0.bitPattern & 0xFFFF_0000) } }
    let expected = (0..<(count + columns)).map { row in
      values[(row * columns)..<((row + 1) * columns)].map(\.magnitude).max() ?? 0
    }
    for tier in KernelTier.runnable {
      #expect(try Self.rows(values, type, rows: count + columns, tier: tier) == expected, "\(tier)")
      #expect(
        try LargestMagnitude.of(Self.bytes(values, type).span.bytes, type: type, tier: tier) == expected.max()
      )
    }
  }

  @Test(arguments: [ElementType.f32, .bf16]) func infinityAndNaNAreReturned(type: ElementType) throws {
    for tier in KernelTier.runnable {
      var values = [Float](repeating: 1, count: 300)
      values[217] = -.infinity
      #expect(try Self.rows(values, type, rows: 3, tier: tier) == [1, 1, .infinity])
      values[3] = -.nan
      values[4] = .infinity
      let found = try Self.rows(values, type, rows: 3, tier: tier)
      #expect(found[0].isNaN && found[1] == 1 && found[2] == .infinity)
    }
  }

  @Test func badInputIsRefused() throws {
    #expect(throws: CheckpointError.self) { try Self.rows([1, 2, 3], .f32, rows: 2, tier: .active) }
    #expect(throws: CheckpointError.self) { try Self.rows([1, 2, 3], .f32, rows: 0, tier: .active) }
    #expect(throws: CheckpointError.self) { try Self.rows([1, 2, 3, 4], .f16, rows: 2, tier: .active) }
    #expect(try Self.rows([], .f32, rows: 0, tier: .active) == [])
    #expect(try Self.rows([], .f32, rows: 2, tier: .active) == [0, 0])
    #expect(try LargestMagnitude.of([UInt8]().span.bytes, type: .bf16) == 0)
  }
}
