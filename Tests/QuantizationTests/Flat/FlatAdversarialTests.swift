import CheckpointTesting
import Foundation
import Quantization
import TensorFormats
import Testing

/// Blocks at the edge cases of the flat formats' arithmetic.
@Suite struct FlatAdversarialTests {
  /// Expects every tier to give the twin's bytes for these blocks.
  private func check(_ type: ElementType, _ values: [Float], _ what: String) throws -> [UInt8] {
    let codec = try #require(BlockCodec.codec(for: type))
    let expected = try codec.bytes(ofReference: values, columns: values.count, importance: nil)
    for tier in KernelTier.runnable {
      let found = try codec.bytes(of: values, columns: values.count, importance: nil, tier: tier)
      let wrong = found.indices.first { found[$0] != expected[$0] }
      #expect(wrong == nil, "\(type), \(tier), \(what): block \((wrong ?? 0) / type.block.bytes)")
    }
    return expected
  }

  /// Largest magnitudes around every power of two in F32.
  private static let nearPowers: [Float] = (-149...127).flatMap { exponent -> [Float] in
    let power = Float(sign: .plus, exponent: exponent, significand: 1)
    return (-100...3).map { Float(bitPattern: UInt32(clamping: Int(power.bitPattern) + $0)) }
      .filter { $0 > 0 && $0.isFinite }
  }

  /// The exponent is `floor(log2f(x))` with the C library's rounding: some values just below a power of two
  /// get its exponent.
  @Test func mxfp4ExponentsAreThoseOfTheCLibrary() throws {
    let values = Self.nearPowers.flatMap { largest in [largest] + [Float](repeating: -largest / 3, count: 31)
    }
    let bytes = try check(.mxfp4, values, "near powers of two")
    #if canImport(Glibc)
    for (block, largest) in Self.nearPowers.enumerated() {
      let exponent = UInt8(truncatingIfNeeded: Int(log2f(largest).rounded(.down)) - 2 + 127)
      #expect(bytes[block * 17] == exponent, "\(largest)")
    }
    #endif
  }

  /// Elements at and next to the midpoints between levels.
  @Test func midpointsOfFourBitFloatsAreRoundedAlike() throws {
    let midpoints: [Float] = [0.5, 1.5, 2.5, 3.5, 5, 7, 10, 12]
    var generator = SeededGenerator(seed: 12)
    var mxfp4: [Float] = []
    var nvfp4: [Float] = []
    for _ in 0..<400 {
      // MXFP4: the scale is a power of two. NVFP4: half of an E4M3 number, 12 times which is the block's largest.
      let power = Float(sign: .plus, exponent: Int.random(in: -120...120, using: &generator), significand: 1)
      mxfp4 += Self.around(midpoints.map { $0 * power }, count: 31, &generator) + [12 * power]
      let code = UInt8.random(in: 1..<0x78, using: &generator)
      let scale = (code < 8 ? Float(code) / 512 : Float(bitPattern: (UInt32(code) << 20) + 120 << 23)) / 2
      for _ in 0..<4 {
        nvfp4 += Self.around(midpoints.map { $0 * scale }, count: 15, &generator) + [-12 * scale]
      }
    }
    _ = try check(.mxfp4, mxfp4, "midpoints")
    _ = try check(.nvfp4, nvfp4, "midpoints")
  }

  /// Blocks whose largest magnitude occurs with both signs, is zero of either sign, subnormal, or of one sign only, in
  /// any place among the blocks whose scales are found together.
  @Test(arguments: [ElementType.q4_0, .q5_0, .q8_0]) func extremesAmongManyBlocksAreEncodedAlike(
    type: ElementType
  ) throws {
    var generator = SeededGenerator(seed: 14)
    let kinds: [(inout SeededGenerator) -> Float] = [
      { Float(Int.random(in: -3...3, using: &$0)) }, { Bool.random(using: &$0) ? 0 : -0.0 },
      { _ in -0.0 }, { _ in 0 }, { Bool.random(using: &$0) ? 1 : -1 },
      { Float.random(in: 0...1, using: &$0) }, { -Float.random(in: 0...1, using: &$0) },
      { Float(bitPattern: UInt32.random(in: 0...63, using: &$0)) },
      { Float(bitPattern: UInt32.random(in: 0x8000_0000...0x8000_0100, using: &$0)) },
      { Float(bitPattern: UInt32.random(in: 0...0x7F7F_FFFF, using: &$0)) },
    ]
    for count in [1, 15, 16, 17, 53] {
      for _ in 0..<20 {
        let values = (0..<count).flatMap { _ -> [Float] in
          let kind = kinds[Int.random(in: 0..<kinds.count, using: &generator)]
          return (0..<32).map { _ in kind(&generator) }
        }
        _ = try check(type, values, "\(count) blocks")
      }
    }
  }

  /// The values and their neighbours, with either sign.
  private static func around(_ values: [Float], count: Int, _ generator: inout SeededGenerator) -> [Float] {
    (0..<count).map { _ in
      let value = values[Int.random(in: 0..<(values.count - 1), using: &generator)]
      let near = [value, value.nextUp, value.nextDown][Int.random(in: 0..<3, using: &generator)]
      return Bool.random(using: &generator) ? near : -near
    }
  }

  /// Scales at and beyond the ends of NVFP4's range, where the choice depends on how distances are rounded.
  @Test func nvfp4ScalesAreClampedAlike() throws {
    var generator = SeededGenerator(seed: 13)
    var values: [Float] = []
    for exponent in -20...127 {
      for _ in 0..<4 {
        let scale = Float(sign: .plus, exponent: exponent, significand: 1)
        values += (0..<16).map { _ in Float.random(in: -1...1, using: &generator) * scale }
      }
    }
    _ = try check(.nvfp4, values, "clamped scales")
  }

  /// Quotients next to a half: adding one half and truncating would round some of them up.
  @Test(arguments: [ElementType.q8_0, .q4_0, .q4_1, .q5_0, .q5_1])
  func quotientsNextToAHalfAreRoundedAlike(type: ElementType) throws {
    var values: [Float] = []
    for largest in [127, 8, -8, 16, 15, 31] as [Float] {
      for start in stride(from: -15, to: 15, by: 2) {
        let ties = (0..<10).map { Float(start + $0) / 2 }
        values += [largest, 0] + ties + ties.map(\.nextUp) + ties.map(\.nextDown)
      }
    }
    _ = try check(type, values, "halves")
    if type == .q8_0 {
      let edge = Float(0.5).nextDown
      let block = try check(
        .q8_0, [127, edge, -edge, 0.5, -0.5, 1.5, 2.5] + [Float](repeating: 0, count: 25), "edge")
      #expect(block[2..<9].map { Int8(bitPattern: $0) } == [127, 0, 0, 1, -1, 2, 3])
    }
  }

  /// At these magnitudes 1/d overflows, so that all levels are 0.
  @Test(arguments: [ElementType.q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .tq1_0, .tq2_0, .q1_0, .q2_0])
  func subnormalScalesAreEncodedAlike(type: ElementType) throws {
    var generator = SeededGenerator(seed: 14)
    var values: [Float] = []
    for exponent in -149 ... -118 {
      let scale = Float(sign: .plus, exponent: exponent, significand: 1)
      values += (0..<256).map { _ in Float.random(in: -4...4, using: &generator) * scale }
    }
    _ = try check(type, values, "subnormal scales")
  }

  /// The difference between the extremes overflows.
  @Test(arguments: [ElementType.q4_1, .q5_1, .q4_0, .q8_0, .q2_0, .tq1_0]) func hugeRangesAreEncodedAlike(
    type: ElementType
  )
    throws
  {
    var generator = SeededGenerator(seed: 15)
    let largest = Float.greatestFiniteMagnitude
    let values = (0..<1024).map { _ in Float.random(in: -1...1, using: &generator) * largest }
    _ = try check(type, values, "huge ranges")
  }
}
