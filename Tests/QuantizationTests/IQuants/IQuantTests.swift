import CheckpointTesting
import Quantization
import TensorFormats
import Testing

/// The IQ formats: the twins against the reference's vectors, the kernels against the twins.
@Suite("IQ formats") struct IQuantTests {
  static let types: [ElementType] = [
    .iq1S, .iq1M, .iq2XXS, .iq2XS, .iq2S, .iq3XXS, .iq3S, .iq4NL, .iq4XS,
  ]
  /// The types that can be encoded.
  static let writtenTypes: [ElementType] = types.filter { $0 != .iq1M }
  /// The types that can be encoded without importance.
  static let plainTypes: [ElementType] = [.iq2S, .iq3XXS, .iq3S, .iq4NL, .iq4XS]

  // MARK: Against the reference

  @Test("the twin decodes the reference's blocks", arguments: types)
  func twinDecodesReference(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    for (bytes, values) in try Self.referenceBlocks(type) {
      let decoded = try Self.decode(codec, bytes, tier: nil)
      #expect(decoded.map(\.bitPattern) == values.map(\.bitPattern))
    }
  }

  @Test("every kernel decodes the reference's blocks", arguments: types, KernelTier.runnable)
  func kernelsDecodeReference(type: ElementType, tier: KernelTier) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    for (bytes, values) in try Self.referenceBlocks(type) {
      let decoded = try Self.decode(codec, bytes, tier: tier)
      #expect(decoded.map(\.bitPattern) == values.map(\.bitPattern))
    }
  }

  @Test("the twin encodes as the reference does", arguments: writtenTypes)
  func twinEncodesAsReference(type: ElementType) throws {
    try Self.expectReference(type, tier: nil)
  }

  @Test("every kernel encodes as the reference does", arguments: writtenTypes, KernelTier.runnable)
  func kernelsEncodeAsReference(type: ElementType, tier: KernelTier) throws {
    try Self.expectReference(type, tier: tier)
  }

  // MARK: Kernels against the twin

  @Test("kernels decode any bytes as the twin does", arguments: types)
  func kernelsDecodeAnything(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    var generator = SeededGenerator(seed: 0x1_0D)
    // Every bit of a block is significant, so random bytes reach every position, sign and scale, including scales that are
    // infinite or NaN.
    let bytes = (0..<97 * type.block.bytes).map { _ in UInt8.random(in: 0...255, using: &generator) }
    let expected = Self.bits(try Self.decode(codec, bytes, tier: nil))
    for tier in KernelTier.runnable {
      #expect(Self.bits(try Self.decode(codec, bytes, tier: tier)) == expected, "\(tier)")
    }
  }

  @Test("kernels encode adversarial rows as the twin does", arguments: writtenTypes)
  func kernelsEncodeAdversarialRows(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    // Three super-blocks a row, and rows that do not fill the last batch of lanes.
    let rows = IQuantRows.adversarial(columns: 768)
    for importance in [IQuantRows.importance(columns: 768), nil] {
      if importance == nil && codec.importanceUse == .required { continue }
      let expected = try Self.encode(codec, rows, columns: 768, importance, tier: nil)
      for tier in KernelTier.runnable {
        let bytes = try Self.encode(codec, rows, columns: 768, importance, tier: tier)
        Self.expectEqualBlocks(bytes, expected, type, "\(tier), importance: \(importance != nil)")
      }
    }
  }

  @Test("kernels encode any number of blocks", arguments: writtenTypes)
  func kernelsEncodeAnyCount(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    let size = type.block.elements
    let importance = IQuantRows.importance(columns: 19 * size)
    let row = IQuantRows.normal(count: 19 * size, seed: 0xC0)
    let all = try Self.encode(codec, row, columns: row.count, importance, tier: .portable)
    // A block's bytes depend on that block alone: a prefix of the blocks encodes to a prefix of the bytes.
    for count in [1, 2, 3, 7, 8, 9, 15, 16, 17, 18] {
      for tier in KernelTier.runnable {
        let bytes = try Self.encode(
          codec, Array(row.prefix(count * size)), columns: count * size,
          Array(importance.prefix(count * size)),
          tier: tier)
        Self.expectEqualBlocks(
          bytes, Array(all.prefix(count * type.block.bytes)), type, "\(tier), \(count) blocks")
      }
    }
  }

  @Test("rows encode alike alone and together", arguments: writtenTypes)
  func rowsAreIndependent(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    let importance = IQuantRows.importance(columns: 256)
    let rows = (0..<5).map { IQuantRows.normal(count: 256, seed: 0xA0 + $0) }
    for tier in KernelTier.runnable {
      let together = try Self.encode(codec, rows.flatMap { $0 }, columns: 256, importance, tier: tier)
      let single = try rows.flatMap { try Self.encode(codec, $0, columns: 256, importance, tier: .portable) }
      Self.expectEqualBlocks(together, single, type, "\(tier)")
    }
  }

  // MARK: Use of importance

  @Test(
    "formats that need importance refuse to encode without it",
    arguments: [ElementType.iq1S, .iq2XXS, .iq2XS])
  func importanceIsRequired(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    #expect(codec.importanceUse == .required)
    let error = #expect(throws: CheckpointError.self) {
      try Self.encode(codec, [Float](repeating: 1, count: 256), columns: 256, nil, tier: .portable)
    }
    #expect(error?.code == .unsupported)
  }

  @Test("IQ1_M can be decoded but not encoded") func iq1MIsOnlyRead() throws {
    let codec = try #require(BlockCodec.codec(for: .iq1M))
    #expect(!codec.canEncode)
    let ones = [Float](repeating: 1, count: 256)
    let error = #expect(throws: CheckpointError.self) {
      try Self.encode(codec, ones, columns: 256, ones, tier: .portable)
    }
    #expect(error?.code == .unsupported)
  }

  @Test("importance changes the bytes", arguments: plainTypes)
  func importanceMatters(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    let row = IQuantRows.normal(count: 1024, seed: 0xF00)
    let importance = IQuantRows.importance(columns: 1024)
    let plain = try Self.encode(codec, row, columns: 1024, nil, tier: .portable)
    let weighted = try Self.encode(codec, row, columns: 1024, importance, tier: .portable)
    #expect(plain != weighted)
  }
}
