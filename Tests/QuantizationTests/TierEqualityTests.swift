import CheckpointTesting
import Quantization
import TensorFormats
import Testing

/// Every codec gives the bits of its Swift twin on every kernel tier that runs here.
@Suite struct TierEqualityTests {
  static let codecs = ElementType.allCases.filter { BlockCodec.codec(for: $0) != nil }
  static let encoders = codecs.filter { BlockCodec.codec(for: $0)?.canEncode == true }

  @Test(arguments: encoders) func encodingAgrees(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    // 17 blocks of 256 per row: vector kernels that take 16 at a time have a remainder.
    for (columns, rows) in [(17 * 256, 2), (256, RowKind.allCases.count * 2)] {
      let values = RowKind.rows(rows, columns: columns, seed: UInt64(columns))
      let importance = RowKind.importance(columns)
      for weights in codec.importanceUse == .ignored ? [nil] : [nil, importance] {
        if weights == nil && codec.importanceUse == .required { continue }
        let expected = try codec.bytes(ofReference: values, columns: columns, importance: weights)
        for tier in KernelTier.runnable {
          let found = try codec.bytes(of: values, columns: columns, importance: weights, tier: tier)
          let wrong = found.indices.first { found[$0] != expected[$0] }
          #expect(wrong == nil, "\(type), \(tier), weighted: \(weights != nil), byte \(wrong ?? 0)")
        }
      }
    }
  }

  @Test(arguments: codecs) func decodingAgrees(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    let layout = type.block
    // Any bytes are a valid block; an odd number of blocks leaves a remainder in every vector kernel.
    let blocks = layout.elements == 1 ? 65_537 : 4_099 / layout.elements * 8 + 3
    var generator = SeededGenerator(seed: 11)
    let bytes = (0..<(blocks * layout.bytes)).map { _ in UInt8.random(in: 0...255, using: &generator) }
    let expected = try codec.values(ofReference: bytes)
    for tier in KernelTier.runnable {
      let found = try codec.values(of: bytes, tier: tier)
      let wrong = found.indices.first { !found[$0].isSameResult(as: expected[$0]) }
      #expect(
        wrong == nil,
        "\(type), \(tier), element \(wrong ?? 0): \(found[wrong ?? 0]) instead of \(expected[wrong ?? 0])")
    }
  }

  @Test(arguments: encoders) func rowsAreIndependent(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    let columns = 512
    let values = RowKind.rows(5, columns: columns, seed: 4)
    let importance = codec.importanceUse == .ignored ? nil : RowKind.importance(columns)
    let together = try codec.bytes(of: values, columns: columns, importance: importance, tier: .active)
    var apart: [UInt8] = []
    for row in 0..<5 {
      apart += try codec.bytes(
        of: Array(values[(row * columns)..<((row + 1) * columns)]), columns: columns, importance: importance,
        tier: .active)
    }
    #expect(together == apart)
  }
}

/// Kinds of rows of test values.
enum RowKind: Int, CaseIterable {
  case gaussian, heavyTailed, brainFloat, wideRange, subnormal, huge, constant, zeros, signedZeros, ties,
    sparse, tiny
  case positive, negative

  /// Rows of all kinds, in rotation.
  static func rows(_ count: Int, columns: Int, seed: UInt64) -> [Float] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).flatMap { row in
      let kind = allCases[row % allCases.count]
      let scale = Float.random(in: 0.01...1, using: &generator)
      return (0..<columns).map { _ in kind.value(scale, &generator) }
    }
  }

  /// Weights of very different size, some of them zero.
  static func importance(_ columns: Int) -> [Float] {
    var generator = SeededGenerator(seed: 5)
    return (0..<columns).map { _ in
      let value = Float.random(in: 0...1, using: &generator)
      return value < 0.05 ? 0 : value * value * value * 100
    }
  }

  private func value(_ scale: Float, _ generator: inout SeededGenerator) -> Float {
    let uniform = Float.random(in: -1...1, using: &generator)
    let gaussian =
      (0..<6).reduce(Float(0)) { sum, _ in sum + Float.random(in: -1...1, using: &generator) } / 2
    let one = Int.random(in: 0..<8, using: &generator)
    switch self {
    case .gaussian: return gaussian * scale
    case .heavyTailed: return gaussian * scale / max(0.02, uniform.magnitude)
    case .brainFloat: return Float(bitPattern: (gaussian * scale).bitPattern & 0xFFFF_0000)
    case .wideRange:
      return Float(sign: .plus, exponent: Int.random(in: -40...20, using: &generator), significand: uniform)
    case .subnormal:
      return Float(bitPattern: UInt32.random(in: 0..<4096, using: &generator) | (one == 0 ? 1 << 31 : 0))
    case .huge: return uniform * 1e30
    case .constant: return scale
    case .zeros: return 0
    case .signedZeros: return one == 0 ? scale : (one < 4 ? -0.0 : 0)
    case .ties: return Float(Int.random(in: -24...24, using: &generator)) * 0.25
    case .sparse: return one == 0 ? gaussian : 0
    case .tiny: return gaussian * 1e-12
    case .positive: return uniform.magnitude * scale + 0.001
    case .negative: return -uniform.magnitude * scale - 0.001
    }
  }
}

extension Float {
  /// The same bits, or both NaN: a NaN's payload is up to the processor.
  func isSameResult(as other: Float) -> Bool { bitPattern == other.bitPattern || (isNaN && other.isNaN) }
}

// MARK: - Codecs on arrays

extension BlockCodec {
  func bytes(of values: [Float], columns: Int, importance: [Float]?, tier: KernelTier) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xA5, count: elementType.block.byteCount(ofElements: values.count) ?? 0)
    var target = bytes.mutableSpan
    var raw = target.mutableBytes
    try encode(values.span, columns: columns, importance: importance?.span, into: &raw, tier: tier)
    return bytes
  }

  func bytes(ofReference values: [Float], columns: Int, importance: [Float]?) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0x5A, count: elementType.block.byteCount(ofElements: values.count) ?? 0)
    var target = bytes.mutableSpan
    var raw = target.mutableBytes
    try encodeReference(values.span, columns: columns, importance: importance?.span, into: &raw)
    return bytes
  }

  func values(of bytes: [UInt8], tier: KernelTier) throws -> [Float] {
    var values = [Float](
      repeating: 0, count: bytes.count / elementType.block.bytes * elementType.block.elements)
    var target = values.mutableSpan
    try decode(bytes.span.bytes, into: &target, tier: tier)
    return values
  }

  func values(ofReference bytes: [UInt8]) throws -> [Float] {
    var values = [Float](
      repeating: 0, count: bytes.count / elementType.block.bytes * elementType.block.elements)
    var target = values.mutableSpan
    try decodeReference(bytes.span.bytes, into: &target)
    return values
  }
}
