import Quantization
import TensorFormats

/// The measurements of one format. Rates are per core; a missing one means that the format lacks that direction.
struct CodecResult {
  var format: String
  var bitsPerWeight: Double
  /// GB/s of BF16 in memory, to encoded bytes in memory.
  var encodeRate: Double?
  /// The same with error sums measured along the way.
  var measuredEncodeRate: Double?
  /// The same with an importance matrix, where the format uses one.
  var weightedEncodeRate: Double?
  /// GB/s of F32 out, from encoded bytes in memory.
  var decodeRate: Double?
  /// The speed-up over the Swift definition and over the portable kernels.
  var encodeOverTwin: Double?
  var encodeOverPortable: Double?
  var decodeOverPortable: Double?
  /// The rate of bytes read plus written, as a share of `memcpy`'s.
  var encodeOverCopy: Double?
  var decodeOverCopy: Double?
  /// Relative to the root mean square of the weights.
  var gaussianError: Double?
  var heavyTailedError: Double?
}

/// Measures one codec.
struct CodecBenchmark {
  static let columns = 7168
  static let rows = 16
  /// The Swift definitions and the slowest searches are timed on a single row.
  static let twinRows = 1

  var gaussian = Weights.gaussian(columns * rows)
  var heavyTailed = Weights.heavyTailed(columns * rows)
  var importance = Weights.importance(columns)
  var seconds: Double
  var tier: KernelTier

  /// GB/s that `memcpy` moves, read plus written, on buffers as large as those of the codecs.
  func copyRate() throws -> Double {
    let source = gaussian.bytes
    var target = [UInt8](repeating: 0, count: source.count)
    let time = try medianSeconds(
      [
        Variant(name: "copy") {
          for _ in 0..<16 {
            target.withUnsafeMutableBytes { to in source.withUnsafeBytes { to.copyMemory(from: $0) } }
          }
        }
      ], seconds: seconds)["copy"]
    return time.map { Double(source.count) * 2 * 16 / $0 / 1e9 } ?? 0
  }

  func run(_ type: ElementType, copyRate: Double) throws -> CodecResult {
    guard let codec = BlockCodec.codec(for: type) else { throw BenchmarkError.noCodec(type.rawValue) }
    var result = CodecResult(format: type.rawValue, bitsPerWeight: type.block.bitsPerElement)
    let rowBytes = type.block.byteCount(ofElements: Self.columns) ?? 0
    let elements = Double(Self.columns * Self.rows)
    var encoded = [UInt8](repeating: 0, count: rowBytes * Self.rows)
    if codec.canEncode {
      let times = try encodeTimes(codec, &encoded)
      let rate = { (name: String) in times[name].map { elements * 2 / $0 / 1e9 } }
      result.encodeRate = rate("encode")
      result.measuredEncodeRate = rate("measured")
      result.weightedEncodeRate = rate("weighted")
      if let time = times["encode"] {
        result.encodeOverPortable = times["portable"].map { $0 / time }
        result.encodeOverTwin = times["twin"].map { $0 * Double(Self.rows / Self.twinRows) / time }
        result.encodeOverCopy = (elements * 2 + Double(encoded.count)) / time / 1e9 / copyRate
      }
      result.gaussianError = try error(of: codec, gaussian)
      result.heavyTailedError = try error(of: codec, heavyTailed)
    }
    let times = try decodeTimes(codec, encoded)
    if let time = times["decode"] {
      result.decodeRate = elements * 4 / time / 1e9
      result.decodeOverPortable = times["portable"].map { $0 / time }
      result.decodeOverCopy = (elements * 4 + Double(encoded.count)) / time / 1e9 / copyRate
    }
    return result
  }

  // MARK: Times

  private func encodeTimes(_ codec: BlockCodec, _ encoded: inout [UInt8]) throws -> [String: Double] {
    let type = codec.elementType
    let weights = codec.importanceUse == .required ? importance : nil
    var output = encoded
    var variants: [Variant] = []
    var forms: [(name: String, tier: KernelTier, weights: [Float]?, measures: Bool)] = [
      ("encode", tier, weights, false), ("measured", tier, weights, true),
    ]
    if tier != .portable { forms.append(("portable", .portable, weights, false)) }
    if codec.importanceUse == .optional { forms.append(("weighted", tier, importance, false)) }
    for form in forms {
      let transcoder = try RowTranscoder(
        from: .bf16, to: type, columns: Self.columns, importance: form.weights, tier: form.tier)
      var scratch = transcoder.makeScratch()
      variants.append(
        Variant(name: form.name) {
          var span = output.mutableSpan
          var raw = span.mutableBytes
          try transcoder.transcode(
            gaussian.bytes.span.bytes, rows: Self.rows, into: &raw, scratch: &scratch, measures: form.measures
          )
        })
    }
    let rowBytes = encoded.count / Self.rows
    var twinOutput = [UInt8](repeating: 0, count: rowBytes * Self.twinRows)
    let twinInput = Array(gaussian.values.prefix(Self.columns * Self.twinRows))
    variants.append(
      Variant(name: "twin") {
        var span = twinOutput.mutableSpan
        var raw = span.mutableBytes
        try codec.encodeReference(
          twinInput.span, columns: Self.columns, importance: weights?.span, into: &raw)
      })
    let times = try medianSeconds(variants, seconds: seconds)
    encoded = output
    return times
  }

  private func decodeTimes(_ codec: BlockCodec, _ encoded: [UInt8]) throws -> [String: Double] {
    // Row by row into a buffer that stays in the cache, as the runtime and the transcoder use it.
    var row = [Float](repeating: 0, count: Self.columns)
    let rowBytes = encoded.count / Self.rows
    let tiers = tier == .portable ? [("decode", tier)] : [("decode", tier), ("portable", .portable)]
    let variants = tiers.map { name, tier in
      Variant(name: name) {
        for index in 0..<Self.rows {
          var span = row.mutableSpan
          try codec.decode(
            encoded.span.bytes.extracting((index * rowBytes)..<((index + 1) * rowBytes)), into: &span,
            tier: tier)
        }
      }
    }
    return try medianSeconds(variants, seconds: seconds / 2)
  }

  private func error(of codec: BlockCodec, _ weights: Weights) throws -> Double {
    let transcoder = try RowTranscoder(
      from: .f32, to: codec.elementType, columns: Self.columns,
      importance: codec.importanceUse == .required ? importance : nil, tier: tier)
    var scratch = transcoder.makeScratch()
    let rowBytes = codec.elementType.block.byteCount(ofElements: Self.columns) ?? 0
    var output = [UInt8](repeating: 0, count: rowBytes * Self.rows)
    var span = output.mutableSpan
    var raw = span.mutableBytes
    return try transcoder.transcode(
      weights.values.span.bytes, rows: Self.rows, into: &raw, scratch: &scratch
    ).relativeRMSE
  }
}

/// Errors of the benchmark.
enum BenchmarkError: Error, CustomStringConvertible {
  case noCodec(String)
  case usage(String)

  var description: String {
    switch self {
    case .noCodec(let name): "\(name) has no codec"
    case .usage(let text): text
    }
  }
}
