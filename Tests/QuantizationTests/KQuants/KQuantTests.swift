import CheckpointTesting
import Quantization
import TensorFormats
import Testing

/// The K formats against the reference encoder's bytes and decoder's values, and the kernels against the twins.
@Suite("K formats")
struct KQuantTests {
  static let encoded: [ElementType] = [.q2K, .q3K, .q4K, .q5K, .q6K]
  static let all = encoded + [.q8K]

  @Test("The twin encodes and decodes the reference vectors", arguments: encoded)
  func twinVectors(_ type: ElementType) throws {
    try checkVectors(type, tier: nil)
  }

  @Test(
    "Every kernel tier encodes and decodes the reference vectors", arguments: encoded, KernelTier.runnable)
  func kernelVectors(_ type: ElementType, _ tier: KernelTier) throws {
    try checkVectors(type, tier: tier)
  }

  @Test("Kernels and twin agree on rows of every kind", arguments: all, KQuantRows.allCases)
  func rows(_ type: ElementType, _ kind: KQuantRows) throws {
    var generator = SeededGenerator(seed: 0x6b71 + UInt64(kind.rawValue.utf8.count))
    let columns = 3 * 256
    let values = kind.values(6 * columns, using: &generator)
    try checkAgreement(type, values, columns: columns, importance: nil, "\(kind)")
    let importance = KQuantImportance.spread.values(columns, using: &generator)
    try checkAgreement(type, values, columns: columns, importance: importance, "\(kind), weighted")
  }

  @Test("Kernels and twin agree for every kind of importance", arguments: encoded, KQuantImportance.allCases)
  func importances(_ type: ElementType, _ kind: KQuantImportance) throws {
    var generator = SeededGenerator(seed: 0x1a9)
    let columns = 2 * 256
    let values = KQuantRows.allCases.flatMap { $0.values(columns, using: &generator) }
    let importance = kind.values(columns, using: &generator)
    try checkAgreement(type, values, columns: columns, importance: importance, "\(kind)")
  }

  @Test("Kernels and twin agree where only rounding decides the search", arguments: encoded)
  func degenerateSearches(_ type: ElementType) throws {
    var generator = SeededGenerator(seed: 0x3a11)
    let columns = 8 * 256
    let values = KQuantRows.outlierColumns.values(96 * columns, using: &generator)
    let importance = KQuantImportance.ignoringOutliers.values(columns, using: &generator)
    try checkAgreement(type, values, columns: columns, importance: importance, "outliers without weight")
  }

  @Test(
    "Kernels and twin agree on super-blocks that do not fill the lanes", arguments: all,
    [(1, 1), (2, 1), (1, 2), (3, 1), (17, 1), (1, 17), (5, 7), (16, 1), (33, 1)])
  func counts(_ type: ElementType, _ shape: (rows: Int, superBlocks: Int)) throws {
    var generator = SeededGenerator(seed: UInt64(shape.rows * 100 + shape.superBlocks))
    let columns = shape.superBlocks * 256
    let values = KQuantRows.heavyTailed.values(shape.rows * columns, using: &generator)
    let importance = KQuantImportance.spread.values(columns, using: &generator)
    try checkAgreement(type, values, columns: columns, importance: nil, "\(shape)")
    try checkAgreement(type, values, columns: columns, importance: importance, "\(shape), weighted")
  }

  @Test("Any bytes decode alike on every tier", arguments: all)
  func anyBytes(_ type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    var generator = SeededGenerator(seed: 77)
    let blocks = (0..<200 * type.block.bytes).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    let expected = try decode(codec, blocks, tier: nil)
    for tier in KernelTier.runnable {
      let found = try decode(codec, blocks, tier: tier)
      let difference = zip(expected, found).firstDifference { a, b in
        a.bitPattern == b.bitPattern || a.isNaN && b.isNaN
      }
      #expect(difference == nil, "\(type) \(tier)")
    }
  }

  @Test("Bytes may start at any address", arguments: all, KernelTier.runnable)
  func unaligned(_ type: ElementType, _ tier: KernelTier) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    var generator = SeededGenerator(seed: 5)
    let values = KQuantRows.gaussian.values(19 * 256, using: &generator)
    let expected = try encode(codec, values, columns: 256, importance: nil, tier: nil)
    let expectedValues = try decode(codec, expected, tier: nil)
    for shift in 1...3 {
      // Guard bytes before and after must stay unchanged.
      var bytes = [UInt8](repeating: 0xa5, count: expected.count + 8)
      do {
        var all = bytes.mutableSpan
        var span = all.mutableBytes
        var part = span._mutatingExtracting(shift..<shift + expected.count)
        try codec.encode(values.span.extracting(0..<values.count), columns: 256, into: &part, tier: tier)
      }
      #expect(Array(bytes[shift..<shift + expected.count]) == expected)
      #expect(bytes[..<shift].allSatisfy { $0 == 0xa5 })
      #expect(bytes[(shift + expected.count)...].allSatisfy { $0 == 0xa5 })
      var decoded = [Float](repeating: 0, count: values.count)
      do {
        var span = decoded.mutableSpan
        try codec.decode(bytes.span.bytes.extracting(shift..<shift + expected.count), into: &span, tier: tier)
      }
      #expect(decoded == expectedValues)
    }
  }

  @Test("Q8_K stores the sums of its levels")
  func q8Sums() throws {
    let codec = try #require(BlockCodec.codec(for: .q8K))
    let values = (0..<256).map { Float($0) - 200 }
    let block = try encode(codec, values, columns: 256, importance: nil, tier: .portable)
    #expect(Int8(bitPattern: block[4]) == -127)
    for part in 0..<16 {
      let sum = block[4 + 16 * part..<20 + 16 * part].reduce(0) { $0 + Int(Int8(bitPattern: $1)) }
      let stored = UInt16(block[260 + 2 * part]) | UInt16(block[261 + 2 * part]) << 8
      #expect(Int(Int16(bitPattern: stored)) == sum)
    }
  }
}

// MARK: - Checks

/// Compares bytes and values of the stored vectors with what the twin (`tier` nil) or a kernel gives.
private func checkVectors(_ type: ElementType, tier: KernelTier?) throws {
  let codec = try #require(BlockCodec.codec(for: type))
  let vectors = try ReferenceVectors.load(type.rawValue)
  let inputs = try ReferenceVectors.inputs()
  let cases = [
    ("plain", vectors.plainBytes, vectors.plainValues, nil),
    ("imatrix", vectors.imatrixBytes, vectors.imatrixValues, inputs.imatrix),
  ]
  for (name, bytes, values, importance) in cases {
    let bytes = try #require(bytes)
    let values = try #require(values)
    let found = try encode(codec, inputs.x, columns: inputs.columns, importance: importance, tier: tier)
    #expect(zip(bytes, found).firstDifference(by: ==) == nil, "\(type) \(name): byte")
    #expect(found.count == bytes.count)
    let decoded = try decode(codec, bytes, tier: tier)
    let difference = zip(values, decoded).firstDifference { $0.bitPattern == $1.bitPattern }
    #expect(difference == nil, "\(type) \(name): value")
    #expect(decoded.count == values.count)
  }
}

/// Expects every kernel tier to encode and decode as the twin does, bit for bit.
private func checkAgreement(
  _ type: ElementType, _ values: [Float], columns: Int, importance: [Float]?, _ what: String
) throws {
  let codec = try #require(BlockCodec.codec(for: type))
  let expected = try encode(codec, values, columns: columns, importance: importance, tier: nil)
  let expectedValues = try decode(codec, expected, tier: nil)
  for tier in KernelTier.runnable {
    let found = try encode(codec, values, columns: columns, importance: importance, tier: tier)
    let difference = zip(expected, found).firstDifference(by: ==)
    #expect(
      difference == nil,
      "\(type) \(tier) \(what): super-block \((difference ?? 0) / type.block.bytes), byte \((difference ?? 0) % type.block.bytes)"
    )
    let decoded = try decode(codec, expected, tier: tier)
    let valueDifference = zip(expectedValues, decoded).firstDifference { a, b in
      a.bitPattern == b.bitPattern || a.isNaN && b.isNaN
    }
    #expect(valueDifference == nil, "\(type) \(tier) \(what): value")
  }
}

private func encode(
  _ codec: BlockCodec, _ values: [Float], columns: Int, importance: [Float]?, tier: KernelTier?
) throws -> [UInt8] {
  let count = try #require(codec.elementType.block.byteCount(ofElements: values.count))
  var bytes = [UInt8](repeating: 0xa5, count: count)
  var span = bytes.mutableSpan
  var raw = span.mutableBytes
  if let tier {
    try codec.encode(values.span, columns: columns, importance: importance?.span, into: &raw, tier: tier)
  } else {
    try codec.encodeReference(values.span, columns: columns, importance: importance?.span, into: &raw)
  }
  return bytes
}

private func decode(_ codec: BlockCodec, _ bytes: [UInt8], tier: KernelTier?) throws -> [Float] {
  let block = codec.elementType.block
  var values = [Float](repeating: .nan, count: bytes.count / block.bytes * block.elements)
  var span = values.mutableSpan
  if let tier {
    try codec.decode(bytes.span.bytes, into: &span, tier: tier)
  } else {
    try codec.decodeReference(bytes.span.bytes, into: &span)
  }
  return values
}

extension Sequence {
  /// The position of the first pair that differs.
  fileprivate func firstDifference<T>(by alike: (T, T) -> Bool) -> Int? where Element == (T, T) {
    var position = 0
    for (a, b) in self {
      if !alike(a, b) { return position }
      position += 1
    }
    return nil
  }
}
