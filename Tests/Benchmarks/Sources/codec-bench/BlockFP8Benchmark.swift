import Quantization
import TensorFormats

extension CodecBenchmark {
  /// Block-FP8 does not work on single rows; its figures are in the same table.
  func runBlockFP8(copyRate: Double) throws -> CodecResult {
    let rows = BlockFP8.side
    let format = try BlockFP8(rows: rows, columns: Self.columns)
    let count = rows * Self.columns
    let bytes = (0..<(rows / Self.rows)).flatMap { _ in gaussian.bytes }
    let narrow = try BlockFP8(rows: rows, columns: BlockFP8.side)
    let narrowValues = Array(gaussian.values.prefix(rows * BlockFP8.side))
    var codes = [UInt8](repeating: 0, count: count)
    var narrowCodes = [UInt8](repeating: 0, count: narrowValues.count)
    var scales = [Float](repeating: 0, count: format.scaleCount)
    var narrowScales = [Float](repeating: 0, count: narrow.scaleCount)
    var values = [Float](repeating: 0, count: count)
    var scratch = BlockFP8.Scratch()
    var variants = [("encode", tier, false), ("measured", tier, true), ("portable", .portable, false)].map {
      name, tier, measures in
      Variant(name: name) {
        var codeSpan = codes.mutableSpan
        var raw = codeSpan.mutableBytes
        var scaleSpan = scales.mutableSpan
        try format.encode(
          bytes.span.bytes, from: .bf16, codes: &raw, scales: &scaleSpan, scratch: &scratch,
          measures: measures,
          tier: tier)
      }
    }
    variants.append(
      Variant(name: "twin") {
        var codeSpan = narrowCodes.mutableSpan
        var raw = codeSpan.mutableBytes
        var scaleSpan = narrowScales.mutableSpan
        try narrow.encodeReference(narrowValues.span, codes: &raw, scales: &scaleSpan)
      })
    for (name, tier) in [("decode", tier), ("portable decode", .portable)] {
      variants.append(
        Variant(name: name) {
          // Row by row into a buffer that stays in the cache.
          for row in 0..<rows {
            var span = values.mutableSpan
            var first = span._mutatingExtracting(0..<Self.columns)
            try format.decode(
              codes.span.bytes.extracting((row * Self.columns)..<((row + 1) * Self.columns)),
              scales: scales.span,
              firstRow: row, into: &first, tier: tier)
          }
        })
    }
    let times = try medianSeconds(variants, seconds: seconds)
    var result = CodecResult(
      format: "FP8_BLOCK", bitsPerWeight: 8 + 32.0 / Double(BlockFP8.side * BlockFP8.side))
    let size = Double(count)
    if let encode = times["encode"], let measured = times["measured"], let decode = times["decode"] {
      result.encodeRate = size * 2 / encode / 1e9
      result.measuredEncodeRate = size * 2 / measured / 1e9
      result.decodeRate = size * 4 / decode / 1e9
      result.encodeOverPortable = times["portable"].map { $0 / encode }
      result.encodeOverTwin = times["twin"].map { $0 * Double(Self.columns / BlockFP8.side) / encode }
      result.decodeOverPortable = times["portable decode"].map { $0 / decode }
      result.encodeOverCopy = size * 3 / encode / 1e9 / copyRate
      result.decodeOverCopy = size * 5 / decode / 1e9 / copyRate
    }
    result.gaussianError = try error(narrow, gaussian)
    result.heavyTailedError = try error(narrow, heavyTailed)
    return result
  }

  private func error(_ format: BlockFP8, _ weights: Weights) throws -> Double {
    let count = format.rows * format.columns
    let matrices = weights.values.count / count
    var codes = [UInt8](repeating: 0, count: matrices * count)
    var scales = [Float](repeating: 0, count: matrices * format.scaleCount)
    var scratch = BlockFP8.Scratch()
    var codeSpan = codes.mutableSpan
    var raw = codeSpan.mutableBytes
    var scaleSpan = scales.mutableSpan
    return try format.encode(
      weights.bytes.span.bytes.extracting(0..<(matrices * count * 2)), from: .bf16, codes: &raw,
      scales: &scaleSpan,
      scratch: &scratch
    ).relativeRMSE
  }
}
