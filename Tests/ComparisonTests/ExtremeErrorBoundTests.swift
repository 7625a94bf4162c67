import CheckpointTesting
import Quantization
import TensorFormats
import Testing

import Comparison

/// At the ends of a format's range the encoders do as well as the format allows, and the error bound
/// accounts for it; faults are still found there.
@Suite struct ExtremeErrorBoundTests {
  enum Kind: String, CaseIterable, Sendable {
    case largestAndSmallestRows, oneOutlier, subnormal, smallestNormal, halfSubnormal, oneMagnitude, ternary,
      tiny

    var values: [Float] {
      var generator = SeededGenerator(seed: 71)
      return (0..<Weights.rows * Weights.columns).map { index in
        let row = index / Weights.columns
        let sign: Float = Bool.random(using: &generator) ? 1 : -1
        let uniform = Float.random(in: 0...1, using: &generator)
        let brain = { (value: Float) in Float(bitPattern: value.bitPattern & 0xFFFF_0000) }
        switch self {
        case .largestAndSmallestRows: return sign * (row % 2 == 0 ? 60_000 : 0x1p-133)
        case .oneOutlier: return index == 5 * Weights.columns + 77 ? 65_024 : brain(sign * uniform * 0.02)
        case .subnormal: return sign * Float(Int.random(in: 0...127, using: &generator)) * 0x1p-133
        case .smallestNormal: return brain(sign * uniform * 0x1p-124)
        case .halfSubnormal: return sign * Float(Int.random(in: 0...127, using: &generator)) * 0x1p-24
        case .oneMagnitude: return sign * (row % 2 == 0 ? 0.0213623046875 : 0x1p-20)
        case .ternary: return index % 3 == 0 ? 0 : sign * 0.0213623046875
        case .tiny: return brain(sign * uniform * 1e-9)
        }
      }
    }
  }

  @Test("sound conversions are within their bounds", arguments: ExtremeStoring.all, Kind.allCases)
  func honest(storing: ExtremeStoring, kind: Kind) throws {
    // These encoders do badly on rows that are mostly zeros, and reporting that is right.
    let fails: [ElementType] = [.q2K, .iq1S, .iq1M, .iq2XXS, .iq2XS, .iq2S, .iq3XXS, .iq3S]
    if kind == .oneOutlier, fails.contains(storing.storage.elementType) { return }
    let weights = kind.values
    let bound = ErrorBound(storing.storage, of: StoredPrecision(.bf16))
    let restored: (values: [Float], floor: Double)
    do throws(CheckpointError) {
      restored = try storing.restored(weights)
    } catch {
      // Refusing to encode is just as sound.
      #expect(error.code == .nonFinite)
      return
    }
    let errors = try judge(weights, restored.values, bound, floor: restored.floor)
    #expect(errors.badBlocks == 0, "worst: \(String(describing: errors.worstBlock))")
    #expect(errors.sums.squaredErrors <= errors.usualSquares)
    #expect(errors.usualSquares <= errors.boundSquares * 1.000_001)
  }

  @Test(
    "faults in ordinary rows are found beside rows of extreme values",
    arguments: ExtremeStoring.all.filter { $0.storage.elementType.block.elements < 256 })
  func faults(storing: ExtremeStoring) throws {
    var weights = Weights(.gaussian).values
    for column in 0..<Weights.columns {
      weights[8 * Weights.columns + column] = column % 2 == 0 ? 2000 : -2000
      weights[9 * Weights.columns + column] = 0x1p-133
    }
    let bound = ErrorBound(storing.storage, of: StoredPrecision(.bf16))
    // A scale for the whole matrix, or for tiles, loses the rows beside the large one.
    guard storing.scheme?.geometry.hasMatrixScale != true, storing.scheme != .fp8Tiles else { return }
    guard let honest = try? storing.restored(weights) else { return }
    func bad(_ change: (inout [Float]) -> Void) throws -> Int {
      var values = honest.values
      change(&values)
      return try judge(weights, values, bound, floor: honest.floor).badBlocks
    }
    let row = 100 * Weights.columns
    #expect(try bad { _ in } == 0)
    #expect(try bad { for index in row..<row + 128 { $0[index] *= 2 } } > 0)
    #expect(try bad { for index in row..<row + 128 { $0[index] = 0 } } > 0)
    #expect(try bad { values in for index in 0..<128 { values.swapAt(row + index, row + 1024 + index) } } > 0)
  }

  @Test("errors slightly too large everywhere are found beside rows of one magnitude") func somewhatTooLarge()
    throws
  {
    let weights = Weights(.gaussian).values
    for type in [ElementType.q8_0, .q6K] {
      let storing = ExtremeStoring(type)
      let restored = try storing.restored(weights).values
      let worse = zip(weights, restored).map { $0 + ($1 - $0) * 3.2 }
      let errors = try judge(weights, worse, ErrorBound(storing.storage, of: StoredPrecision(.bf16)))
      #expect(errors.sums.squaredErrors > errors.usualSquares)
    }
  }
}

/// Encodes and decodes as a conversion does, including its refusals.
struct ExtremeStoring: Sendable, CustomTestStringConvertible {
  let storage: StoredPrecision
  var scheme: WeightScheme?
  private var stored: StoredScheme?
  private var search = ScaleSearch.absmax

  var testDescription: String {
    storage.name + (stored.map { " \($0.method.rawValue) \(search)" } ?? "")
  }

  init(_ type: ElementType) { storage = StoredPrecision(type) }

  init(_ stored: StoredScheme, _ search: ScaleSearch = .absmax) {
    storage = StoredPrecision(stored.scheme)
    scheme = stored.scheme
    self.stored = stored
    self.search = search
  }

  static let all: [ExtremeStoring] =
    ElementType.allCases.compactMap { type -> ExtremeStoring? in
      guard let codec = BlockCodec.codec(for: type), codec.canEncode,
        type.largestMagnitude != nil || type == .f16
      else { return nil }
      return ExtremeStoring(type)
    }
    + [
      StoredScheme(.fp8Channel, .compressedTensors), StoredScheme(.int8Channel, .compressedTensors),
      StoredScheme(.int8Channel, .w8a8Int8), StoredScheme(.int4Group(32), .compressedTensors),
      StoredScheme(.int4Group(128), .compressedTensors), StoredScheme(.nvfp4, .compressedTensors),
      StoredScheme(.nvfp4, .modelOpt), StoredScheme(.mxfp4, .compressedTensors), StoredScheme(.mxfp4, .mxfp4),
    ].flatMap { stored in ScaleSearch.allCases.map { ExtremeStoring(stored, $0) } }
    + [ExtremeStoring(StoredScheme(.fp8Tiles, .fp8))]

  func restored(_ values: [Float]) throws(CheckpointError) -> (values: [Float], floor: Double) {
    let columns = Weights.columns
    let rows = values.count / columns
    let bytes = values.flatMap { value in
      (0..<4).map { UInt8(truncatingIfNeeded: value.bitPattern >> UInt32(8 * $0)) }
    }
    var restored = [Float](repeating: 0, count: values.count)
    guard let stored else {
      let type = storage.elementType
      let transcoder = try RowTranscoder(
        from: .f32, to: type, columns: columns,
        importance: BlockCodec.codec(for: type)?.importanceUse == .required ? Weights.importance : nil)
      var output = [UInt8](repeating: 0, count: type.block.byteCount(ofElements: values.count) ?? 0)
      do {
        var span = output.mutableSpan
        var raw = span.mutableBytes
        var scratch = transcoder.makeScratch()
        try transcoder.transcode(bytes.span.bytes, rows: rows, into: &raw, scratch: &scratch)
      }
      var span = restored.mutableSpan
      try BlockCodec.codec(for: type)?.decode(output.span.bytes, into: &span)
      return (restored, 0)
    }
    if stored.scheme == .fp8Tiles {
      let tiles = try BlockFP8(rows: rows, columns: columns)
      var codes = [UInt8](repeating: 0, count: values.count)
      var scales = [Float](repeating: 0, count: tiles.scaleCount)
      do {
        var codeSpan = codes.mutableSpan
        var scaleSpan = scales.mutableSpan
        var raw = codeSpan.mutableBytes
        var scratch = BlockFP8.Scratch()
        try tiles.encode(bytes.span.bytes, from: .f32, codes: &raw, scales: &scaleSpan, scratch: &scratch)
      }
      var span = restored.mutableSpan
      try tiles.decode(codes.span.bytes, scales: scales.span, into: &span)
      return (restored, 0)
    }
    let scheme = try RowScheme(stored)
    let matrixScale = scheme.matrixScale(amax: values.reduce(0) { max($0, $1.magnitude) })
    let transcoder = try SchemeTranscoder(
      from: .f32, to: stored, columns: columns, matrixScale: matrixScale, search: search)
    var codes = [UInt8](repeating: 0, count: rows * transcoder.codeRowBytes)
    var scales = [UInt8](repeating: 0, count: rows * transcoder.scaleRowBytes)
    do {
      var codeSpan = codes.mutableSpan
      var scaleSpan = scales.mutableSpan
      var rawCodes = codeSpan.mutableBytes
      var rawScales = scaleSpan.mutableBytes
      var scratch = transcoder.makeScratch()
      _ = try transcoder.transcode(
        bytes.span.bytes, rows: rows, codes: &rawCodes, scales: &rawScales, scratch: &scratch)
    }
    var span = restored.mutableSpan
    try scheme.decode(
      codes: codes.span.bytes, scales: scales.span.bytes, columns: columns, matrixScale: matrixScale,
      into: &span)
    guard stored.scheme.geometry.hasMatrixScale else { return (restored, 0) }
    let multiplier = stored.method == .modelOpt ? Double(matrixScale) : 1 / Double(matrixScale)
    return (restored, 6 * 0x1p-10 * multiplier)
  }
}
