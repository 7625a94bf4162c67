import CheckpointTesting
import Quantization
import TensorFormats
import Testing

/// Repacked weights keep their values, and a round trip is the identity.
@Suite struct FourBitRepackingTests {
  /// The two layouts of a format.
  struct Layouts: Sendable, CustomTestStringConvertible {
    var type: ElementType
    var scheme: StoredScheme
    var group: Int
    var testDescription: String { type.rawValue }

    static let all = [
      Layouts(type: .mxfp4, scheme: StoredScheme(.mxfp4, .compressedTensors), group: 32),
      Layouts(type: .nvfp4, scheme: StoredScheme(.nvfp4, .modelOpt), group: 16),
    ]

    func unpack(_ blocks: [UInt8], columns: Int, tier: KernelTier = .active) throws -> (
      codes: [UInt8], scales: [UInt8]
    ) {
      let elements = blocks.count / type.block.bytes * type.block.elements
      var codes = [UInt8](repeating: 0xA5, count: elements / 2)
      var scales = [UInt8](repeating: 0xA5, count: elements / group)
      do {
        var codeSpan = codes.mutableSpan
        var rawCodes = codeSpan.mutableBytes
        var scaleSpan = scales.mutableSpan
        var rawScales = scaleSpan.mutableBytes
        try FourBitRepacking.unpack(
          blocks.span.bytes, type: type, columns: columns, codes: &rawCodes, scales: &rawScales, tier: tier)
      }
      return (codes, scales)
    }

    func pack(_ codes: [UInt8], _ scales: [UInt8], columns: Int, tier: KernelTier = .active) throws -> [UInt8]
    {
      var blocks = [UInt8](repeating: 0x5A, count: codes.count * 2 / type.block.elements * type.block.bytes)
      do {
        var span = blocks.mutableSpan
        var raw = span.mutableBytes
        try FourBitRepacking.pack(
          codes: codes.span.bytes, scales: scales.span.bytes, type: type, columns: columns, into: &raw,
          tier: tier)
      }
      return blocks
    }

    /// Every scale that both layouts have, over every pair of codes.
    func everyScale() -> (codes: [UInt8], scales: [UInt8]) {
      let count = type == .mxfp4 ? 255 : 127
      let groups = count * 16  // whole NVFP4 blocks
      let scales = (0..<groups).map { UInt8($0 % count) }
      var generator = SeededGenerator(seed: 31)
      let codes = (0..<(groups * group / 2)).map { _ in UInt8.random(in: 0...255, using: &generator) }
      return (codes, scales)
    }
  }

  @Test(arguments: Layouts.all) func repackingKeepsValues(layouts: Layouts) throws {
    let (codes, scales) = layouts.everyScale()
    let scheme = try RowScheme(layouts.scheme)
    let codec = try #require(BlockCodec.codec(for: layouts.type))
    let columns = codes.count * 2
    let expected = try scheme.decode(codes, scales, columns: columns, matrixScale: 1, .twin)
    for tier in KernelTier.runnable {
      let blocks = try layouts.pack(codes, scales, columns: columns, tier: tier)
      let values = try codec.values(ofReference: blocks)
      // -0 is 0 in GGML.
      let wrong = values.indices.first { values[$0] != expected[$0] }
      #expect(
        wrong == nil, "\(tier): element \(wrong ?? 0), \(values[wrong ?? 0]), not \(expected[wrong ?? 0])")
      let back = try layouts.unpack(blocks, columns: columns, tier: tier)
      #expect(back.codes == codes && back.scales == scales, "\(tier)")
    }
    #expect(Set(expected).count > 400)
  }

  /// Blocks from GGML's own encoder keep their values, in rows of several blocks.
  @Test(arguments: Layouts.all) func blocksOfTheEncoderKeepTheirValues(layouts: Layouts) throws {
    let codec = try #require(BlockCodec.codec(for: layouts.type))
    let scheme = try RowScheme(layouts.scheme)
    let columns = 192
    let values = RowKind.rows(RowKind.allCases.count, columns: columns, seed: 32)
    let blocks = try codec.bytes(ofReference: values, columns: columns, importance: nil)
    let expected = try codec.values(ofReference: blocks)
    for tier in KernelTier.runnable {
      let (codes, scales) = try layouts.unpack(blocks, columns: columns, tier: tier)
      #expect(
        try scheme.decode(codes, scales, columns: columns, matrixScale: 1, .twin) == expected, "\(tier)")
    }
  }

  /// GGML ignores the sign of an NVFP4 scale and reads 7F as 0; in safetensors the scale is written with that value.
  @Test func nvfp4ScalesAreWrittenWithTheValueThatGGMLReads() throws {
    let layouts = Layouts.all[1]
    let codec = try #require(BlockCodec.codec(for: .nvfp4))
    let blocks = [0x7F, 0xFE, 0xB8, 0x80] + (0..<32).map { UInt8($0 * 8) }
    let (codes, scales) = try layouts.unpack(blocks, columns: 64)
    #expect(scales == [0, 0x7E, 0x38, 0])
    let scheme = try RowScheme(layouts.scheme)
    #expect(
      try scheme.decode(codes, scales, columns: 64, matrixScale: 1, .twin)
        == codec.values(ofReference: blocks))
  }

  /// GGML's decoder reads it as 480.
  @Test func nvfp4ScaleFFIsRefused() throws {
    var blocks = [UInt8](repeating: 1, count: 36 * 4)
    blocks[36 * 3 + 2] = 0xFF
    for tier in KernelTier.runnable {
      let error = #expect(throws: CheckpointError.self) {
        try Layouts.all[1].unpack(blocks, columns: 128, tier: tier)
      }
      #expect(error?.code == .unsupported)
      #expect(error?.message.contains("row 1, column 96 ") == true, "\(error?.message ?? "")")
    }
    let values = try #require(BlockCodec.codec(for: .nvfp4)).values(ofReference: blocks)
    #expect(values[128 + 96] == 240)
  }

  @Test func exponent255IsRefusedExceptOverZeros() throws {
    let layouts = Layouts.all[0]
    // With zeros of either sign, as GGML writes for magnitudes below 2^-125.
    let zeros: [UInt8] = [0xFF] + [0x80] + [UInt8](repeating: 0, count: 15)
    let (codes, scales) = try layouts.unpack(zeros, columns: 32)
    #expect(scales == [0])
    #expect(codes == [0, 0, 0, 0, 0, 0, 0, 0, 8] + [UInt8](repeating: 0, count: 7))
    // In the second block of the second row.
    var blocks = [UInt8](repeating: 0, count: 17 * 4)
    blocks[17 * 3] = 0xFF
    blocks[17 * 3 + 16] = 0x10
    for tier in KernelTier.runnable {
      let error = #expect(throws: CheckpointError.self) {
        try layouts.unpack(blocks, columns: 64, tier: tier)
      }
      #expect(error?.code == .unsupported)
      #expect(error?.message.contains("row 1, column 32") == true, "\(error?.message ?? "")")
    }
  }

  @Test(arguments: [(0, 255 as UInt8), (1, 0x7F), (1, 0xFF), (1, 0x80), (1, 0x81)])
  func scalesThatGGMLLacksAreRefused(format: Int, scale: UInt8) throws {
    let layouts = Layouts.all[format]
    let groups = 128 * 5 / layouts.group
    for place in [0, 21 * 32 / layouts.group % groups, groups - 1] {
      var scales = [UInt8](repeating: 1, count: groups)
      scales[place] = scale
      let codes = [UInt8](repeating: 0x11, count: 64 * 5)
      for tier in KernelTier.runnable {
        let error = #expect(throws: CheckpointError.self) {
          try layouts.pack(codes, scales, columns: 128, tier: tier)
        }
        let column = place * layouts.group
        #expect(error?.code == .unsupported)
        #expect(
          error?.message.contains("row \(column / 128), column \(column % 128) ") == true,
          "\(error?.message ?? "")")
      }
    }
  }

  @Test func sizesThatDoNotFitAreRefused() throws {
    let layouts = Layouts.all[1]
    let codes = [UInt8](repeating: 0, count: 32)
    let scales = [UInt8](repeating: 0, count: 4)
    #expect(throws: CheckpointError.self) { try layouts.pack(codes, scales, columns: 32) }
    #expect(throws: CheckpointError.self) { try layouts.pack(codes, scales, columns: 0) }
    #expect(throws: CheckpointError.self) { try layouts.pack(codes, scales, columns: 128) }
    #expect(throws: CheckpointError.self) { try layouts.pack(codes, Array(scales.dropLast()), columns: 64) }
    #expect(throws: CheckpointError.self) {
      try layouts.unpack([UInt8](repeating: 0, count: 35), columns: 64)
    }
    let error = #expect(throws: CheckpointError.self) {
      try Layouts(type: .q4_0, scheme: layouts.scheme, group: 32).pack(codes, [1], columns: 64)
    }
    #expect(error?.code == .unsupported)
    #expect(FourBitRepacking.applies(to: .mxfp4) && FourBitRepacking.applies(to: .nvfp4))
    #expect(!FourBitRepacking.applies(to: .q4_0))
  }

  @Test func matrixScalesAreConverted() throws {
    let half = try #require(FourBitRepacking.matrixScale(0.5, from: .factor, to: .divisor))
    #expect(half.scale == 2 && half.isExact)
    let third = try #require(FourBitRepacking.matrixScale(3, from: .divisor, to: .factor))
    #expect(third.scale == Float(1) / 3 && !third.isExact)
    let same = try #require(FourBitRepacking.matrixScale(3, from: .divisor, to: .divisor))
    #expect(same.scale == 3 && same.isExact)
    for bad: Float in [0, -1, .infinity, .nan, 0x1p-140] {
      #expect(FourBitRepacking.matrixScale(bad, from: .factor, to: .divisor) == nil)
    }
    #expect(StoredScheme(.nvfp4, .compressedTensors).matrixScaleForm == .divisor)
    #expect(StoredScheme(.nvfp4, .modelOpt).matrixScaleForm == .factor)
  }
}
