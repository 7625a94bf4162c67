import CheckpointTesting
import Quantization
import TensorFormats
import Testing

extension IQuantTests {
  /// The reference's blocks and their decoded values.
  static func referenceBlocks(_ type: ElementType) throws -> [(bytes: [UInt8], values: [Float])] {
    let vectors = try ReferenceVectors.load(type.rawValue)
    var blocks: [(bytes: [UInt8], values: [Float])] = []
    if let bytes = vectors.plainBytes, let values = vectors.plainValues { blocks.append((bytes, values)) }
    if let bytes = vectors.imatrixBytes, let values = vectors.imatrixValues { blocks.append((bytes, values)) }
    try #require(!blocks.isEmpty)
    return blocks
  }

  /// The bits of values, with all NaNs made equal: the sign of a product with NaN is not defined.
  static func bits(_ values: [Float]) -> [UInt32] {
    values.map { $0.isNaN ? Float.nan.bitPattern : $0.bitPattern }
  }

  /// Encodes the reference's inputs with and without importance; the twin does it if `tier` is `nil`.
  static func expectReference(_ type: ElementType, tier: KernelTier?) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    let vectors = try ReferenceVectors.load(type.rawValue)
    let (x, rows, columns, imatrix) = try ReferenceVectors.inputs()
    try #require(x.count == rows * columns)
    if codec.importanceUse != .required {
      let expected = try #require(vectors.plainBytes)
      expectEqualBlocks(try encode(codec, x, columns: columns, nil, tier: tier), expected, type, "plain")
    }
    let expected = try #require(vectors.imatrixBytes)
    expectEqualBlocks(try encode(codec, x, columns: columns, imatrix, tier: tier), expected, type, "imatrix")
  }

  /// Compares block by block, so that a failure names a block instead of printing all bytes.
  static func expectEqualBlocks(
    _ bytes: [UInt8], _ expected: [UInt8], _ type: ElementType, _ what: String,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(bytes.count == expected.count, sourceLocation: sourceLocation)
    let size = type.block.bytes
    let different = stride(from: 0, to: min(bytes.count, expected.count), by: size).filter {
      bytes[$0..<$0 + size] != expected[$0..<$0 + size]
    }
    let blocks = different.prefix(5).map { $0 / size }
    #expect(
      different.isEmpty, "\(type), \(what): \(different.count) blocks differ, first \(blocks)",
      sourceLocation: sourceLocation)
  }

  static func encode(
    _ codec: BlockCodec, _ values: [Float], columns: Int, _ importance: [Float]?, tier: KernelTier?
  ) throws -> [UInt8] {
    let size = try #require(codec.elementType.block.byteCount(ofElements: values.count))
    var bytes = [UInt8](repeating: 0xAA, count: size)
    var target = bytes.mutableSpan
    var raw = target.mutableBytes
    if let tier {
      try codec.encode(values.span, columns: columns, importance: importance?.span, into: &raw, tier: tier)
    } else {
      try codec.encodeReference(values.span, columns: columns, importance: importance?.span, into: &raw)
    }
    return bytes
  }

  static func decode(_ codec: BlockCodec, _ bytes: [UInt8], tier: KernelTier?) throws -> [Float] {
    let block = codec.elementType.block
    var values = [Float](repeating: -1, count: bytes.count / block.bytes * block.elements)
    var target = values.mutableSpan
    if let tier {
      try codec.decode(bytes.span.bytes, into: &target, tier: tier)
    } else {
      try codec.decodeReference(bytes.span.bytes, into: &target)
    }
    return values
  }
}

/// Rows to encode.
enum IQuantRows {
  /// Roughly normal values: the sum of four uniform ones.
  static func normal(count: Int, seed: UInt64, scale: Float = 0.02) -> [Float] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in
      scale * (0..<4).reduce(0) { sum, _ in sum + Float.random(in: -1...1, using: &generator) }
    }
  }

  /// Weights over four orders of magnitude, some of them zero, and one stretch with hardly any other.
  static func importance(columns: Int) -> [Float] {
    var generator = SeededGenerator(seed: 0x17)
    return (0..<columns).map { column in
      let weight = Float.random(in: 0...1, using: &generator)
      return column % 37 == 0 || (column / 64) % 5 == 1 && column % 3 != 0
        ? 0 : weight * weight * weight * 100
    }
  }

  /// Rows that reach the corner cases of the searches.
  static func adversarial(columns: Int) -> [Float] {
    var generator = SeededGenerator(seed: 0xADE5)
    func uniform() -> Float { Float.random(in: -1...1, using: &generator) }
    func bell() -> Float { uniform() + uniform() + uniform() }
    let rows: [(Int) -> Float] = [
      { _ in bell() },
      { _ in bell() * bell() * bell() * bell() },  // heavy tails
      { _ in 0 },
      { _ in -0.0 },
      { _ in 0.37 },
      { _ in -0.37 },
      { $0 % 2 == 0 ? 0.37 : -0.37 },
      { $0 == 77 ? 5 : 0 },  // one outlier
      { $0 % 256 == 255 ? -5 : 1e-4 * bell() },
      { _ in bell() * 0.1 * .leastNormalMagnitude },  // subnormal
      { _ in bell() * 1e9 },
      { _ in bell() * 1e-8 },  // around the thresholds of zero
      { _ in bell() * 1e-14 },
      { _ in bell().rounded() },  // ties
      { Float($0 % 17 - 8) / 8 },
      { Float($0 % 31) * 0.25 - 4 },
      { _ in -bell().magnitude },
      { $0 % 8 == 3 ? -bell().magnitude : bell().magnitude },  // odd numbers of signs
      { $0 % 8 < 7 ? -bell().magnitude : 0 },
      { $0 / 32 % 3 == 0 ? 0 : bell() },  // zero sub-blocks between others
      { $0 / 16 % 2 == 0 ? 0 : bell() },
      { bell() * Float(sign: .plus, exponent: $0 % 24 - 12, significand: 1) },
    ]
    return rows.flatMap { row in (0..<columns).map(row) }
  }
}
