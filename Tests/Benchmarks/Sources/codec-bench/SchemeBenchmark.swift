import Quantization
import TensorFormats

/// The schemes of codes with separate scales, and how their scales are chosen.
struct BenchmarkedScheme {
  var name: String
  var stored: StoredScheme
  var search: ScaleSearch

  static let all: [BenchmarkedScheme] = [
    ("FP8_CHANNEL", StoredScheme(.fp8Channel, .compressedTensors)),
    ("INT8_CHANNEL", StoredScheme(.int8Channel, .compressedTensors)),
    ("W4A16_G128", StoredScheme(.int4Group(128), .compressedTensors)),
    ("W4A16_G32", StoredScheme(.int4Group(32), .compressedTensors)),
    ("NVFP4_CT", StoredScheme(.nvfp4, .compressedTensors)),
    ("NVFP4_MO", StoredScheme(.nvfp4, .modelOpt)),
    ("MXFP4_CT", StoredScheme(.mxfp4, .compressedTensors)),
    ("MXFP4_OCP", StoredScheme(.mxfp4, .mxfp4)),
  ].flatMap { name, stored in
    ScaleSearch.allCases.map { search in
      BenchmarkedScheme(name: search == .mse ? "\(name)+" : name, stored: stored, search: search)
    }
  }
}

extension CodecBenchmark {
  /// A plus in the name means a search for the least squared error.
  func run(_ benchmarked: BenchmarkedScheme, copyRate: Double) throws -> CodecResult {
    let scheme = try RowScheme(benchmarked.stored)
    let (rowCodes, rowScales) = (
      try scheme.codeBytes(columns: Self.columns), try scheme.scaleBytes(columns: Self.columns)
    )
    var result = CodecResult(
      format: benchmarked.name, bitsPerWeight: Double(8 * (rowCodes + rowScales)) / Double(Self.columns))
    let rows = SchemeRows(scheme: scheme, weights: gaussian, search: benchmarked.search)
    var (values, codes, scales) = try rows.makeBuffers()
    var variants: [Variant] = []
    for (name, tier) in [("encode", tier), ("portable", .portable)] {
      variants.append(Variant(name: name) { try rows.encode(&values, &codes, &scales, tier: tier) })
    }
    if benchmarked.search == .mse {
      let importance = importance
      variants.append(
        Variant(name: "weighted") {
          try rows.encode(&values, &codes, &scales, importance: importance, tier: tier)
        })
    }
    variants.append(Variant(name: "twin") { try rows.encodeTwin(&values, &codes, &scales) })
    for (name, tier) in [("decode", tier), ("portable decode", .portable)] {
      variants.append(Variant(name: name) { try rows.decode(&values, &codes, &scales, tier: tier) })
    }
    let times = try medianSeconds(variants, seconds: seconds)
    let elements = Double(Self.columns * Self.rows)
    let encoded = Double((rowCodes + rowScales) * Self.rows)
    if let encode = times["encode"], let decode = times["decode"] {
      result.encodeRate = elements * 2 / encode / 1e9
      result.weightedEncodeRate = times["weighted"].map { elements * 2 / $0 / 1e9 }
      result.decodeRate = elements * 4 / decode / 1e9
      result.encodeOverPortable = times["portable"].map { $0 / encode }
      result.encodeOverTwin = times["twin"].map { $0 * Double(Self.rows / Self.twinRows) / encode }
      result.decodeOverPortable = times["portable decode"].map { $0 / decode }
      result.encodeOverCopy = (elements * 2 + encoded) / encode / 1e9 / copyRate
      result.decodeOverCopy = (elements * 4 + encoded) / decode / 1e9 / copyRate
    }
    result.gaussianError = try rows.relativeError(tier: tier)
    let heavy = SchemeRows(scheme: scheme, weights: heavyTailed, search: benchmarked.search)
    result.heavyTailedError = try heavy.relativeError(tier: tier)
    return result
  }
}

/// The rows of the benchmark in one scheme.
private struct SchemeRows {
  static let columns = CodecBenchmark.columns

  var scheme: RowScheme
  var weights: Weights
  var search: ScaleSearch
  var matrixScale: Float

  init(scheme: RowScheme, weights: Weights, search: ScaleSearch) {
    self.scheme = scheme
    self.weights = weights
    self.search = search
    matrixScale = scheme.matrixScale(amax: weights.values.reduce(0) { max($0, $1.magnitude) })
  }

  /// A row of F32 that stays in the cache, and the codes and scales of all rows.
  func makeBuffers() throws -> (values: [Float], codes: [UInt8], scales: [UInt8]) {
    let (codes, scales) = try rowBytes()
    return (
      [Float](repeating: 0, count: Self.columns), [UInt8](repeating: 0, count: codes * CodecBenchmark.rows),
      [UInt8](repeating: 0, count: scales * CodecBenchmark.rows)
    )
  }

  /// From BF16 through F32 to codes and scales.
  func encode(
    _ values: inout [Float], _ codes: inout [UInt8], _ scales: inout [UInt8], importance: [Float]? = nil,
    tier: KernelTier
  ) throws {
    guard let brainFloat = BlockCodec.codec(for: .bf16) else { throw BenchmarkError.noCodec("BF16") }
    let (codeBytes, scaleBytes) = try rowBytes()
    for row in 0..<CodecBenchmark.rows {
      do {
        let source = row * Self.columns * 2
        var span = values.mutableSpan
        try brainFloat.decode(
          weights.bytes.span.bytes.extracting(source..<(source + Self.columns * 2)), into: &span, tier: tier)
      }
      var codeSpan = codes.mutableSpan
      var allCodes = codeSpan.mutableBytes
      var someCodes = allCodes._mutatingExtracting((row * codeBytes)..<((row + 1) * codeBytes))
      var scaleSpan = scales.mutableSpan
      var allScales = scaleSpan.mutableBytes
      var someScales = allScales._mutatingExtracting((row * scaleBytes)..<((row + 1) * scaleBytes))
      try scheme.encode(
        values.span, columns: Self.columns, importance: importance?.span, matrixScale: matrixScale,
        search: search, codes: &someCodes, scales: &someScales, tier: tier)
    }
  }

  /// `twinRows` rows, from F32.
  func encodeTwin(_ values: inout [Float], _ codes: inout [UInt8], _ scales: inout [UInt8]) throws {
    let (codeBytes, scaleBytes) = try rowBytes()
    var codeSpan = codes.mutableSpan
    var allCodes = codeSpan.mutableBytes
    var someCodes = allCodes._mutatingExtracting(0..<(codeBytes * CodecBenchmark.twinRows))
    var scaleSpan = scales.mutableSpan
    var allScales = scaleSpan.mutableBytes
    var someScales = allScales._mutatingExtracting(0..<(scaleBytes * CodecBenchmark.twinRows))
    try scheme.encodeReference(
      weights.values.span.extracting(0..<(Self.columns * CodecBenchmark.twinRows)), columns: Self.columns,
      matrixScale: matrixScale, search: search, codes: &someCodes, scales: &someScales)
  }

  func decode(_ values: inout [Float], _ codes: inout [UInt8], _ scales: inout [UInt8], tier: KernelTier)
    throws
  {
    for row in 0..<CodecBenchmark.rows { try decode(row, &values, &codes, &scales, tier: tier) }
  }

  private func decode(
    _ row: Int, _ values: inout [Float], _ codes: inout [UInt8], _ scales: inout [UInt8], tier: KernelTier
  ) throws {
    let (codeBytes, scaleBytes) = try rowBytes()
    var span = values.mutableSpan
    try scheme.decode(
      codes: codes.span.bytes.extracting((row * codeBytes)..<((row + 1) * codeBytes)),
      scales: scales.span.bytes.extracting((row * scaleBytes)..<((row + 1) * scaleBytes)),
      columns: Self.columns, matrixScale: matrixScale, into: &span, tier: tier)
  }

  func relativeError(tier: KernelTier) throws -> Double {
    var (values, codes, scales) = try makeBuffers()
    try encode(&values, &codes, &scales, tier: tier)
    var sums = ErrorSums()
    for row in 0..<CodecBenchmark.rows {
      try decode(row, &values, &codes, &scales, tier: tier)
      let original = weights.values.span.extracting((row * Self.columns)..<((row + 1) * Self.columns))
      sums.merge(try ErrorSums(original: original, restored: values.span, tier: tier))
    }
    return sums.relativeRMSE
  }

  private func rowBytes() throws -> (codes: Int, scales: Int) {
    (try scheme.codeBytes(columns: Self.columns), try scheme.scaleBytes(columns: Self.columns))
  }
}
