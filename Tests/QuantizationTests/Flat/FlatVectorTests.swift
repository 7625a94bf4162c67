import CheckpointTesting
import Quantization
import TensorFormats
import Testing

/// The flat GGML formats give the reference encoder's bytes and the reference decoder's values.
@Suite struct FlatVectorTests {
  static let types: [ElementType] = [
    .f16, .bf16, .q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .mxfp4, .nvfp4, .tq1_0, .tq2_0, .q1_0, .q2_0,
  ]

  @Test(arguments: types) func plainVectorsMatchTheReference(type: ElementType) throws {
    let vectors = try ReferenceVectors.load(type.rawValue)
    try check(
      type, bytes: try #require(vectors.plainBytes), values: try #require(vectors.plainValues),
      weighted: false)
  }

  @Test(arguments: [ElementType.q4_0, .q4_1, .q5_0, .q5_1]) func weightedVectorsMatchTheReference(
    type: ElementType
  ) throws {
    let vectors = try ReferenceVectors.load(type.rawValue)
    try check(
      type, bytes: try #require(vectors.imatrixBytes), values: try #require(vectors.imatrixValues),
      weighted: true)
    #expect(vectors.imatrixBytes != vectors.plainBytes)
  }

  @Test(arguments: types) func importanceIsIgnoredWhereTheReferenceIgnoresIt(type: ElementType) throws {
    let vectors = try ReferenceVectors.load(type.rawValue)
    let codec = try #require(BlockCodec.codec(for: type))
    #expect((vectors.imatrixBytes == nil) == (codec.importanceUse == .ignored))
  }

  private func check(_ type: ElementType, bytes: [UInt8], values: [Float], weighted: Bool) throws {
    let inputs = try ReferenceVectors.inputs()
    let codec = try #require(BlockCodec.codec(for: type))
    let importance = weighted ? inputs.imatrix : nil
    let rowBytes = bytes.count / inputs.rows

    func compare(_ found: [UInt8], _ form: String) {
      let wrong = found.indices.first { found[$0] != bytes[$0] }
      #expect(
        wrong == nil, "\(type), \(form): row \((wrong ?? 0) / rowBytes), byte \((wrong ?? 0) % rowBytes)")
    }
    func compare(_ found: [Float], _ form: String) {
      let wrong = found.indices.first { found[$0].bitPattern != values[$0].bitPattern }
      #expect(wrong == nil, "\(type), \(form): element \(wrong ?? 0)")
    }
    compare(
      try codec.bytes(ofReference: inputs.x, columns: inputs.columns, importance: importance), "Swift encoder"
    )
    compare(try codec.values(ofReference: bytes), "Swift decoder")
    for tier in KernelTier.runnable {
      compare(
        try codec.bytes(of: inputs.x, columns: inputs.columns, importance: importance, tier: tier),
        "\(tier) encoder")
      compare(try codec.values(of: bytes, tier: tier), "\(tier) decoder")
    }
  }
}

/// Half precision agrees with the processor's.
@Suite struct FlatHalfPrecisionTests {
  #if !(os(macOS) && arch(x86_64))
  @Test func everyHalfDecodes() throws {
    let codec = try #require(BlockCodec.codec(for: .f16))
    let bytes = (0..<65_536).flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
    let expected = (0..<65_536).map { Float(Float16(bitPattern: UInt16($0))) }
    for tier in KernelTier.runnable {
      let found = try codec.values(of: bytes, tier: tier)
      #expect(found.indices.allSatisfy { found[$0].isSameResult(as: expected[$0]) }, "\(tier)")
    }
  }

  @Test func floatsRoundToHalves() throws {
    let codec = try #require(BlockCodec.codec(for: .f16))
    var generator = SeededGenerator(seed: 3)
    var values = (0..<50_000).map { _ in
      Float(bitPattern: UInt32.random(in: 0...UInt32.max, using: &generator))
    }
    .filter { !$0.isNaN }
    // Halfway between two halves, and next to that.
    for half in stride(from: UInt16(0), to: 0x7BFF, by: 7) {
      let middle = (Float(Float16(bitPattern: half)) + Float(Float16(bitPattern: half + 1))) / 2
      values += [middle, middle.nextUp, middle.nextDown, -middle]
    }
    values += [65_504, 65_519.996, 65_520, .infinity, -.infinity]
    let expected = values.flatMap { value -> [UInt8] in
      let bits = Float16(value).bitPattern
      return [UInt8(bits & 255), UInt8(bits >> 8)]
    }
    #expect(try codec.bytes(ofReference: values, columns: values.count, importance: nil) == expected)
    for tier in KernelTier.runnable {
      #expect(
        try codec.bytes(of: values, columns: values.count, importance: nil, tier: tier) == expected, "\(tier)"
      )
    }
  }
  #endif
}
