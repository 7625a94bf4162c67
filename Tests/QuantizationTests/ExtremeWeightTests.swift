import CheckpointTesting
import Quantization
import TensorFormats
import Testing

/// Weights at both ends of F32's range.
enum ExtremeRow: String, CaseIterable, Sendable {
  case alternatingElements, oneLarge, oneHuge, subnormal, allSmallest, allLargest, smallestNormal,
    anyFiniteBits,
    justBelowOverflow

  /// Rows of one kind; for the first kind every second row is of the smallest numbers.
  func rows(_ count: Int, columns: Int, seed: UInt64) -> [Float] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).flatMap { row in
      (0..<columns).map { column in
        let sign: Float = Bool.random(using: &generator) ? 1 : -1
        let ordinary = Float.random(in: -0.1...0.1, using: &generator)
        switch self {
        case .alternatingElements:
          return sign * ((row + column) % 2 == 0 ? .greatestFiniteMagnitude : .leastNonzeroMagnitude)
        case .oneLarge: return column == 37 % columns ? sign * 1e25 : ordinary
        case .oneHuge: return column == 37 % columns ? sign * 3.4e38 : ordinary
        case .subnormal:
          return Float(bitPattern: UInt32.random(in: 0..<0x0080_0000, using: &generator)) * sign
        case .allSmallest: return sign * .leastNonzeroMagnitude
        case .allLargest: return sign * 0x1.FEp127
        case .smallestNormal: return sign * ordinary * 0x1p-122
        case .anyFiniteBits:
          let value = Float(bitPattern: UInt32.random(in: 0...UInt32.max, using: &generator))
          return value.isFinite ? value : sign
        case .justBelowOverflow: return sign * Float.random(in: 0x1p126...0x1p127, using: &generator)
        }
      }
    }
  }
}

/// Every finite value can be encoded, and every tier gives the same bytes.
@Suite struct ExtremeWeightTests {
  @Test(arguments: TestedScheme.all, ExtremeRow.allCases)
  func tiersAgreeOnEveryFiniteValue(tested: TestedScheme, kind: ExtremeRow) throws {
    let scheme = try RowScheme(tested.stored)
    let columns = 256
    let values = kind.rows(19, columns: columns, seed: 61)
    let matrixScale = scheme.matrixScale(amax: values.map(\.magnitude).max() ?? 0)
    let ordinary = RowKind.importance(columns)
    for weights in [nil, ordinary, ordinary.map { $0 * 1e36 }, ordinary.map { $0 * 0x1p-140 }] {
      let expected = try scheme.encode(
        values, columns: columns, importance: weights, matrixScale: matrixScale, search: .mse, .twin)
      for tier in KernelTier.runnable {
        let found = try scheme.encode(
          values, columns: columns, importance: weights, matrixScale: matrixScale, search: .mse,
          .kernels(tier))
        #expect(found.codes == expected.codes && found.scales == expected.scales, "\(tier)")
        #expect(found.errors == expected.errors, "\(tier)")
      }
      let errors = try #require(expected.errors)
      #expect(!errors.before.isNaN && !errors.after.isNaN && errors.after <= errors.before)
    }
  }

  /// The search's error sums are right for values of any size.
  @Test(arguments: TestedScheme.all, [1e25, 1e-30] as [Float])
  func sumsStayFinite(tested: TestedScheme, size: Float) throws {
    let scheme = try RowScheme(tested.stored)
    let columns = 256
    let values = RowKind.rows(4, columns: columns, seed: 62).map { max(-1, min(1, $0)) * size }
    let matrixScale = scheme.matrixScale(amax: values.map(\.magnitude).max() ?? 0)
    let found = try scheme.encode(
      values, columns: columns, matrixScale: matrixScale, search: .mse, .kernels(.active))
    let restored = try scheme.decode(
      found.codes, found.scales, columns: columns, matrixScale: matrixScale, .twin)
    let squares = zip(values, restored).reduce(0.0) { sum, pair in
      let difference = Double(pair.0) - Double(pair.1)
      return sum + difference * difference
    }
    let errors = try #require(found.errors)
    #expect(errors.after > 0 && errors.before.isFinite)
    #expect(abs(errors.after / squares - 1) < 1e-4)
  }

  /// Multiplying all weights by a power of two changes the scales and nothing else.
  @Test(arguments: TestedScheme.all.filter { !$0.stored.scheme.geometry.hasMatrixScale }, [-60, 60])
  func searchesDoNotDependOnMagnitude(tested: TestedScheme, exponent: Int) throws {
    let scheme = try RowScheme(tested.stored)
    let columns = 256
    var generator = SeededGenerator(seed: 63)
    let values = (0..<8 * columns).map { _ in Float.random(in: -1...1, using: &generator) }
    let factor = Float(sign: .plus, exponent: exponent, significand: 1)
    let plain = try scheme.encode(values, columns: columns, search: .mse, .kernels(.active))
    let scaled = try scheme.encode(
      values.map { $0 * factor }, columns: columns, search: .mse, .kernels(.active))
    #expect(plain.codes == scaled.codes)
    let (before, after) = (try #require(plain.errors).after, try #require(scaled.errors).after)
    #expect(after == before * Double(factor) * Double(factor))
  }

  static let blockTypes = TierEqualityTests.encoders.filter { $0.largestMagnitude != nil }

  /// In every format, a value beyond the largest representable number is refused with its position and value.
  @Test(arguments: blockTypes, [1.01, 1e25] as [Float])
  func valuesBeyondTheRangeAreRefused(type: ElementType, factor: Float) throws {
    let largest = try #require(type.largestMagnitude)
    let value = min(largest * factor, .greatestFiniteMagnitude)
    let columns = 512
    for policy in [NonFinitePolicy.reject, .pass] {
      var values = RowKind.rows(3, columns: columns, seed: 64).map { max(-1, min(1, $0)) }
      values[columns + 37] = -value
      let transcoder = try RowTranscoder(
        from: .f32, to: type, columns: columns, importance: RowKind.importance(columns))
      let error = #expect(throws: CheckpointError.self) {
        try RowTranscoderTests.transcode(
          transcoder, values.flatMap(\.littleEndianBytes), rows: 3, nonFinite: policy, firstRow: 100)
      }
      #expect(error?.code == .nonFinite)
      let message = error?.message ?? ""
      #expect(message.contains("row 101, column 37 is \(-value)"), "\(message)")
      #expect(message.contains("range of \(type)"), "\(message)")
      #expect(error?.remedy?.contains("wider range") == true)
    }
  }

  /// A scale that overflows is reported with the value that caused it, not a neighbour.
  @Test func overflowOfAScaleNamesTheLargestValue() throws {
    var values = [Float](repeating: 0.5, count: 2 * 256)
    values[256 + 200] = 0x1.FFp127
    for stored in [StoredScheme(.int4Group(128), .compressedTensors), StoredScheme(.mxfp4, .mxfp4)] {
      let transcoder = try SchemeTranscoder(from: .f32, to: stored, columns: 256, search: .absmax)
      var codes = [UInt8](repeating: 0, count: 2 * transcoder.codeRowBytes)
      var scales = [UInt8](repeating: 0, count: 2 * transcoder.scaleRowBytes)
      values[256 + 200] *= -1
      let bytes = values.flatMap(\.littleEndianBytes)
      let error = #expect(throws: CheckpointError.self) {
        var codeSpan = codes.mutableSpan
        var scaleSpan = scales.mutableSpan
        var rawCodes = codeSpan.mutableBytes
        var rawScales = scaleSpan.mutableBytes
        var scratch = transcoder.makeScratch()
        _ = try transcoder.transcode(
          bytes.span.bytes, rows: 2, codes: &rawCodes, scales: &rawScales, scratch: &scratch)
      }
      #expect(error?.message.contains("row 1, column 200 is") == true, "\(stored): \(error?.message ?? "")")
    }
  }

  /// A format's largest number can be stored, at least where one element determines the scale.
  @Test(arguments: [ElementType.q4_0, .q5_0, .q8_0, .tq2_0, .nvfp4, .mxfp4, .f8E5M2])
  func theLargestNumberCanBeStored(type: ElementType) throws {
    let largest = try #require(type.largestMagnitude)
    let columns = type.block.elements * 2
    var values = [Float](repeating: 0, count: columns)
    values[0] = -largest
    let transcoder = try RowTranscoder(from: .f32, to: type, columns: columns)
    let found = try RowTranscoderTests.transcode(transcoder, values.flatMap(\.littleEndianBytes), rows: 1)
    let codec = try #require(BlockCodec.codec(for: type))
    let restored = try codec.values(of: found.bytes, tier: .active)[0]
    #expect(abs(restored / -largest - 1) < 0.07, "\(restored), not \(-largest)")
  }
}

extension Float {
  fileprivate var littleEndianBytes: [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: bitPattern >> UInt32(8 * $0)) }
  }
}
