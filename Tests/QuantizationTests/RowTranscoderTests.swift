import CheckpointTesting
import Quantization
import TensorFormats
import Testing

@Suite struct RowTranscoderTests {
  /// BF16 rows, as bytes and as values.
  static func brainFloatRows(
    _ rows: Int, _ columns: Int, within limit: Float = 1e4
  ) -> (bytes: [UInt8], values: [Float]) {
    let values = RowKind.rows(rows, columns: columns, seed: 21).map {
      Float(bitPattern: max(-limit, min(limit, $0)).bitPattern & 0xFFFF_0000)
    }
    let bytes = values.flatMap { [UInt8($0.bitPattern >> 16 & 255), UInt8($0.bitPattern >> 24)] }
    return (bytes, values)
  }

  /// Transcodes with buffers of its own.
  static func transcode(
    _ transcoder: RowTranscoder, _ bytes: [UInt8], rows: Int, nonFinite: NonFinitePolicy = .reject,
    firstRow: Int = 0, measures: Bool = true
  ) throws -> (bytes: [UInt8], sums: ErrorSums) {
    let count = (transcoder.target.block.byteCount(ofElements: transcoder.columns) ?? 0) * rows
    var output = [UInt8](repeating: 0xEE, count: count)
    var scratch = transcoder.makeScratch()
    var span = output.mutableSpan
    var raw = span.mutableBytes
    let sums = try transcoder.transcode(
      bytes.span.bytes, rows: rows, into: &raw, scratch: &scratch, nonFinite: nonFinite, firstRow: firstRow,
      measures: measures)
    return (output, sums)
  }

  @Test(arguments: TierEqualityTests.encoders) func transcodedBytesAndErrorsAreTheCodecs(type: ElementType)
    throws
  {
    let codec = try #require(BlockCodec.codec(for: type))
    // More than one tile of whole rows, and rows that span tiles.
    for (rows, columns) in [(19, 1024), (2, 20_480)] {
      let (bytes, values) = Self.brainFloatRows(rows, columns, within: min(1e4, type.largestMagnitude ?? 1e4))
      let importance = codec.importanceUse == .ignored ? nil : RowKind.importance(columns)
      for weights in importance == nil ? [nil] : [nil, importance] {
        if weights == nil && codec.importanceUse == .required { continue }
        let transcoder = try RowTranscoder(from: .bf16, to: type, columns: columns, importance: weights)
        let found = try Self.transcode(transcoder, bytes, rows: rows)
        let expected = try codec.bytes(of: values, columns: columns, importance: weights, tier: .active)
        #expect(found.bytes == expected, "\(type), \(columns) columns, weighted: \(weights != nil)")
        let restored = try codec.values(of: expected, tier: .active)
        let reference = ErrorSums.reference(original: values.span, restored: restored.span)
        #expect(found.sums.count == rows * columns)
        #expect(found.sums.maximumAbsoluteError == reference.maximumAbsoluteError)
        #expect(abs(found.sums.rmse - reference.rmse) <= reference.rmse * 1e-12)
      }
    }
  }

  /// The error sums go into manifests: they equal, bit for bit, those of whole tiles of 16,384 elements, or of split rows.
  @Test(arguments: [ElementType.q8_0, .q4_0, .f16, .mxfp4, .q6K, .q1_0])
  func errorsAreAddedUpTileByTile(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    for (rows, columns, tile) in [
      (5, 7_168, 14_336), (11, 5_120, 15_360), (70, 256, 16_384), (2, 20_480, 8_192),
    ] {
      let (bytes, values) = Self.brainFloatRows(rows, columns, within: min(1e4, type.largestMagnitude ?? 1e4))
      let found = try Self.transcode(
        RowTranscoder(from: .bf16, to: type, columns: columns), bytes, rows: rows)
      let restored = try codec.values(of: found.bytes, tier: .active)
      var expected = ErrorSums()
      let unit = columns > tile ? columns : values.count
      for first in stride(from: 0, to: values.count, by: unit) {
        for start in stride(from: first, to: first + unit, by: tile) {
          let part = start..<min(start + tile, first + unit)
          expected.merge(
            ErrorSums.reference(
              original: values.span.extracting(part), restored: restored.span.extracting(part)))
        }
      }
      #expect(found.sums == expected, "\(type), \(columns) columns")
    }
  }

  /// NaN, infinity and out-of-range values, wherever they are among the pieces of a tile.
  @Test(arguments: [(0, 0), (1, 2_047), (0, 2_048), (2, 5_119), (5, 4_096)])
  func nonFiniteValuesAreFoundInEveryPiece(row: Int, column: Int) throws {
    let columns = 5_120
    for (bits, what) in [(0x7F80, "infinity"), (0xFFC0, "NaN"), (0x7F00, "beyond the range")] {
      var (bytes, _) = Self.brainFloatRows(6, columns)
      bytes[(row * columns + column) * 2] = UInt8(bits & 255)
      bytes[(row * columns + column) * 2 + 1] = UInt8(bits >> 8)
      for type in [ElementType.q8_0, .q4_1, .q4K] {
        let transcoder = try RowTranscoder(from: .bf16, to: type, columns: columns)
        for measures in [true, false] {
          let error = #expect(throws: CheckpointError.self) {
            try Self.transcode(transcoder, bytes, rows: 6, firstRow: 10, measures: measures)
          }
          #expect(error?.code == .nonFinite)
          #expect(error?.message.contains("row \(10 + row), column \(column) is") == true)
          #expect(error?.message.contains(what) == true, "\(type): \(error?.message ?? "")")
        }
      }
    }
  }

  @Test func bytesDoNotDependOnMeasuring() throws {
    let (bytes, _) = Self.brainFloatRows(5, 512)
    let transcoder = try RowTranscoder(from: .bf16, to: .q8_0, columns: 512)
    let measured = try Self.transcode(transcoder, bytes, rows: 5)
    let plain = try Self.transcode(transcoder, bytes, rows: 5, measures: false)
    #expect(measured.bytes == plain.bytes)
    #expect(plain.sums == ErrorSums())
    #expect(measured.sums.squaredErrors > 0)
  }

  @Test func theSameTypeIsCopied() throws {
    let bytes = (0..<(34 * 3)).map { UInt8($0) }
    let transcoder = try RowTranscoder(from: .q8_0, to: .q8_0, columns: 32)
    let found = try Self.transcode(transcoder, bytes, rows: 3)
    #expect(found.bytes == bytes)
    #expect(found.sums == ErrorSums(exact: 96))
    // Types that can only be decoded can still be copied.
    let scales = try RowTranscoder(from: .f8E8M0, to: .f8E8M0, columns: 3)
    #expect(try Self.transcode(scales, [1, 2, 255], rows: 1).bytes == [1, 2, 255])
  }

  @Test func exactPairsHaveNoError() throws {
    let (bytes, values) = Self.brainFloatRows(3, 256)
    let found = try Self.transcode(RowTranscoder(from: .bf16, to: .f32, columns: 256), bytes, rows: 3)
    #expect(found.sums == ErrorSums(exact: 768))
    #expect(found.bytes == BlockFP8Tests.bytes(values))
  }

  @Test(arguments: TierEqualityTests.codecs) func pairsDeclaredExactLoseNothing(type: ElementType) throws {
    let codec = try #require(BlockCodec.codec(for: type))
    var generator = SeededGenerator(seed: 77)
    let bytes = (0..<(codec.elementType.block.bytes * 512)).map { _ in
      UInt8.random(in: 0...255, using: &generator)
    }
    let values = try codec.values(of: bytes, tier: .active)
    for target in TierEqualityTests.encoders
    where target != type && type.isExact(in: target) && target.block.elements == 1 {
      let other = try #require(BlockCodec.codec(for: target))
      let copy = try other.values(
        of: try other.bytes(of: values, columns: values.count, importance: nil, tier: .active), tier: .active)
      #expect(values.indices.allSatisfy { values[$0].isSameResult(as: copy[$0]) }, "\(type) in \(target)")
    }
  }

  @Test func nonFiniteValuesAreReportedByRowAndColumn() throws {
    let columns = 64
    var (bytes, _) = Self.brainFloatRows(400, columns)
    // Row 300, column 7: NaN.
    bytes[(300 * columns + 7) * 2] = 0xC0
    bytes[(300 * columns + 7) * 2 + 1] = 0x7F
    let toQ8 = try RowTranscoder(from: .bf16, to: .q8_0, columns: columns)
    for policy in [NonFinitePolicy.reject, .pass] {
      let error = #expect(throws: CheckpointError.self) {
        try Self.transcode(toQ8, bytes, rows: 400, nonFinite: policy, firstRow: 1000)
      }
      #expect(error?.code == .nonFinite)
      #expect(error?.message.contains("row 1300, column 7 is NaN") == true)
    }
    let toF16 = try RowTranscoder(from: .bf16, to: .f16, columns: columns)
    #expect(throws: CheckpointError.self) { try Self.transcode(toF16, bytes, rows: 400) }
    let passed = try Self.transcode(toF16, bytes, rows: 400, nonFinite: .pass)
    let index = (300 * columns + 7) * 2
    #expect(Array(passed.bytes[index...(index + 1)]) == [0x00, 0x7E])
    #expect(passed.sums.rmse.isFinite)

    // Infinity: E4M3 holds NaN but no infinity, E5M2 both.
    bytes[(300 * columns + 7) * 2] = 0x80
    let toE4M3 = try RowTranscoder(from: .bf16, to: .f8E4M3, columns: columns)
    #expect(throws: CheckpointError.self) { try Self.transcode(toE4M3, bytes, rows: 400, nonFinite: .pass) }
    let toE5M2 = try RowTranscoder(from: .bf16, to: .f8E5M2, columns: columns)
    #expect(try Self.transcode(toE5M2, bytes, rows: 400, nonFinite: .pass).bytes[300 * columns + 7] == 0x7C)
  }

  @Test func overflowIsReported() throws {
    // 2^17 in BF16.
    let bytes: [UInt8] = [0x00, 0x3F, 0x00, 0x48]
    let transcoder = try RowTranscoder(from: .bf16, to: .f16, columns: 2)
    for measures in [true, false] {
      let error = #expect(throws: CheckpointError.self) {
        try Self.transcode(transcoder, bytes, rows: 1, measures: measures)
      }
      #expect(error?.code == .nonFinite)
      #expect(error?.message.contains("row 0, column 1") == true)
    }
  }

  @Test func rowsThatDoNotFitAreRefused() throws {
    func code(_ body: () throws -> Void) -> CheckpointError.Code? {
      do { try body() } catch { return (error as? CheckpointError)?.code }
      return nil
    }
    #expect(code { _ = try RowTranscoder(from: .i32, to: .f32, columns: 4) } == .unsupported)
    #expect(code { _ = try RowTranscoder(from: .bf16, to: .f8E8M0, columns: 4) } == .unsupported)
    #expect(code { _ = try RowTranscoder(from: .bf16, to: .q8_0, columns: 48) } == .malformed)
    #expect(code { _ = try RowTranscoder(from: .q8_0, to: .bf16, columns: 16) } == .malformed)
    #expect(code { _ = try RowTranscoder(from: .bf16, to: .f16, columns: 0) } == .malformed)
    #expect(
      code { _ = try RowTranscoder(from: .bf16, to: .q4_0, columns: 32, importance: [1]) } == .malformed)
    for bad in [-1, .nan, .infinity] as [Float] {
      let weights = [Float](repeating: 1, count: 31) + [bad]
      #expect(
        code { _ = try RowTranscoder(from: .bf16, to: .q4_0, columns: 32, importance: weights) } == .malformed
      )
    }
    let transcoder = try RowTranscoder(from: .bf16, to: .q8_0, columns: 32)
    #expect(
      code { _ = try Self.transcode(transcoder, [UInt8](repeating: 0, count: 63), rows: 1) } == .malformed)
  }
}
