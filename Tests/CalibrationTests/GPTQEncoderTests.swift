import Calibration
import CheckpointTesting
import Quantization
import QuantizationRecipes
import Step3Runtime
import TensorFormats
import Testing

@Suite("GPTQ")
struct GPTQEncoderTests {
  static let scheme = StoredScheme(.int4Group(32), .compressedTensors)

  static func activations(_ rows: Int, _ columns: Int, seed: UInt64, dead: Set<Int> = []) -> Activations {
    var generator = SeededGenerator(seed: seed)
    // A few directions that all columns share, so that errors can be compensated.
    let mixing = (0..<8 * columns).map { _ in Float.random(in: -1...1, using: &generator) }
    var values: [Float] = []
    for _ in 0..<rows {
      let hidden = (0..<8).map { _ in Float.random(in: -1...1, using: &generator) }
      for column in 0..<columns {
        var sum = Float.random(in: -0.2...0.2, using: &generator)
        for k in 0..<8 { sum += hidden[k] * mixing[k * columns + column] }
        values.append(dead.contains(column) ? 0 : sum)
      }
    }
    return Activations(rows: rows, columns: columns, values)
  }

  static func weights(_ count: Int, seed: UInt64) -> [Float] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in Float.random(in: -1...1, using: &generator) }
  }

  /// Encodes, decodes, and returns the decoded values.
  static func restored(
    _ values: [Float], columns: Int, _ order: ColumnOrder?
  ) throws -> (values: [Float], codes: [UInt8], scales: [UInt8]) {
    let encoder = try GPTQEncoder(.scheme(scheme), columns: columns, search: .mse, importance: nil)
    let rows = values.count / columns
    var codes = [UInt8](repeating: 0, count: rows * encoder.codeBytes)
    var scales = [UInt8](repeating: 0, count: rows * encoder.scaleBytes)
    try encoder.encode(values, order, codes: &codes, scales: &scales)
    var result = [Float](repeating: 0, count: values.count)
    var span = result.mutableSpan
    try RowScheme(scheme).decode(
      codes: codes.span.bytes, scales: scales.span.bytes, columns: columns, into: &span)
    return (result, codes, scales)
  }

  /// Σ ((w - q) · x)² over all rows of weights and of activations.
  static func outputError(_ a: [Float], _ b: [Float], _ x: Activations) -> Double {
    var total = 0.0
    for row in 0..<a.count / x.columns {
      for token in 0..<x.rows {
        var sum = 0.0
        for column in 0..<x.columns {
          let index = row * x.columns + column
          sum += Double(a[index] - b[index]) * Double(x[token][column])
        }
        total += sum * sum
      }
    }
    return total
  }

  @Test("the scales are those of rounding to nearest, and the output error is far smaller")
  func gains() throws {
    let (columns, rows) = (320, 16)
    let x = Self.activations(500, columns, seed: 1)
    let moments = SecondMoments(columns: columns)
    try moments.add(x.copy(rows: 0..<200), threads: 2)
    try moments.add(x.copy(rows: 200..<500), threads: 1)
    #expect(moments.count == 500)
    let order = try #require(try ColumnOrder(moments, damping: 0.01, threads: 2))
    let values = Self.weights(rows * columns, seed: 2)
    let nearest = try Self.restored(values, columns: columns, nil)
    let spread = try Self.restored(values, columns: columns, order)
    #expect(nearest.scales == spread.scales && nearest.codes != spread.codes)
    let (before, after) = (
      Self.outputError(values, nearest.values, x), Self.outputError(values, spread.values, x)
    )
    #expect(after < 0.25 * before, "\(after) of \(before)")
  }

  @Test("independent columns are rounded to nearest, whatever their order")
  func independent() throws {
    let columns = 64
    let moments = SecondMoments(columns: columns)
    for column in 0..<columns {
      var row = [Float](repeating: 0, count: columns)
      row[column] = Float(1 + column % 7)
      try moments.add(Activations(rows: 1, columns: columns, row), threads: 1)
    }
    let order = try #require(try ColumnOrder(moments, damping: 0.01, threads: 1))
    #expect(Set(order.reversed) == Set(0..<columns))
    #expect(order.reversed.last.map { $0 % 7 } == 6, "the largest mean square comes first")
    let values = Self.weights(4 * columns, seed: 3)
    let spread = try Self.restored(values, columns: columns, order).values
    let nearest = try Self.restored(values, columns: columns, nil).values
    #expect(zip(spread, nearest).allSatisfy { abs($0 - $1) < 1e-6 })
  }

  @Test("a column without activations keeps its rounded weight and spreads no error")
  func dead() throws {
    let columns = 96
    let x = Self.activations(300, columns, seed: 4, dead: [5, 40])
    let moments = SecondMoments(columns: columns)
    try moments.add(x, threads: 2)
    let order = try #require(try ColumnOrder(moments, damping: 0.01, threads: 2))
    let values = Self.weights(8 * columns, seed: 5)
    let spread = try Self.restored(values, columns: columns, order).values
    let nearest = try Self.restored(values, columns: columns, nil).values
    for row in 0..<8 {
      for column in [5, 40] {
        #expect(abs(spread[row * columns + column] - nearest[row * columns + column]) < 1e-6)
      }
    }
  }

  @Test("moments that are not finite, or absent, give no column order")
  func refuses() throws {
    let moments = SecondMoments(columns: 32)
    #expect(try ColumnOrder(moments, damping: 0.01, threads: 1) == nil)
    var row = [Float](repeating: 1, count: 32)
    row[3] = .infinity
    try moments.add(Activations(rows: 1, columns: 32, row), threads: 1)
    #expect(try ColumnOrder(moments, damping: 0.01, threads: 1) == nil)
  }

  // MARK: - Every format

  static let formats: [StorageFormat] =
    [.q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .q2K, .q3K, .q4K, .q5K, .q6K, .iq4NL, .iq4XS, .mxfp4, .nvfp4].map(
      StorageFormat.element)
    + [
      .blockFP8, .scheme(StoredScheme(.nvfp4, .compressedTensors)), .scheme(StoredScheme(.nvfp4, .modelOpt)),
      .scheme(StoredScheme(.mxfp4, .compressedTensors)),
      .scheme(StoredScheme(.fp8Channel, .compressedTensors)),
    ]

  /// The result for a band of rows.
  static func restored(
    _ format: StorageFormat, _ values: [Float], columns: Int, _ order: ColumnOrder?,
    importance: [Float]? = nil
  ) throws -> [Float] {
    var matrixScale: Float = 1
    if case .scheme(let stored) = format, stored.scheme == .nvfp4 {
      matrixScale = try RowScheme(stored).matrixScale(amax: values.reduce(0) { max($0, abs($1)) })
    }
    let encoder = try GPTQEncoder(
      format, columns: columns, search: .mse, importance: importance, matrixScale: matrixScale)
    let rows = values.count / columns
    #expect(rows <= encoder.band)
    var codes = [UInt8](repeating: 0, count: rows * encoder.codeBytes)
    var scales = [UInt8](repeating: 0, count: (format == .blockFP8 ? 1 : rows) * encoder.scaleBytes)
    try encoder.encode(values, order, codes: &codes, scales: &scales)
    var result = [Float](repeating: 0, count: values.count)
    var span = result.mutableSpan
    switch format {
    case .element(let type): try #require(BlockCodec.codec(for: type)).decode(codes.span.bytes, into: &span)
    case .blockFP8:
      let multipliers = (0..<scales.count / 4).map { index in
        Float(bitPattern: (0..<4).reduce(UInt32(0)) { $0 | UInt32(scales[4 * index + $1]) << UInt32(8 * $1) })
      }
      try BlockFP8(rows: rows, columns: columns).decode(
        codes.span.bytes, scales: multipliers.span, into: &span)
    case .scheme(let stored):
      try RowScheme(stored).decode(
        codes: codes.span.bytes, scales: scales.span.bytes, columns: columns, matrixScale: matrixScale,
        into: &span)
    case .keep: break
    }
    return result
  }

  @Test("the output error is far smaller in every format", arguments: formats)
  func gains(_ format: StorageFormat) throws {
    let (columns, rows) = (512, 8)
    let x = Self.activations(600, columns, seed: 11)
    let moments = SecondMoments(columns: columns)
    try moments.add(x, threads: 2)
    let importance = (0..<columns).map { column in
      (0..<x.rows).reduce(Float(0)) { $0 + x[$1][column] * x[$1][column] } / Float(x.rows)
    }
    let order = try #require(try ColumnOrder(moments, damping: 0.01, threads: 2))
    let values = Self.weights(rows * columns, seed: 12)
    let nearest = try Self.restored(format, values, columns: columns, nil, importance: importance)
    let spread = try Self.restored(format, values, columns: columns, order, importance: importance)
    let (before, after) = (Self.outputError(values, nearest, x), Self.outputError(values, spread, x))
    #expect(before > 0 && after < 0.4 * before, "\(format.spelling): \(after) of \(before)")
  }

  @Test("blocks without activations do not lose their weights", arguments: formats)
  func unseen(_ format: StorageFormat) throws {
    let columns = 512
    let values = Self.weights(4 * columns, seed: 13)
    // The second half never had any activations.
    let importance = (0..<columns).map { Float($0 < columns / 2 ? 1 : 0) }
    let plain = try Self.restored(format, values, columns: columns, nil)
    let weighted = try Self.restored(format, values, columns: columns, nil, importance: importance)
    func error(_ result: [Float]) -> Float {
      values.indices.filter { $0 % columns >= columns / 2 }.reduce(0) {
        $0 + (values[$1] - result[$1]) * (values[$1] - result[$1])
      }
    }
    #expect(error(weighted) < 2 * error(plain) + 1e-6)
  }

  @Test("partial tiles at the edges are encoded like whole ones")
  func edges() throws {
    let (columns, rows) = (320, 72)
    let x = Self.activations(500, columns, seed: 14)
    let moments = SecondMoments(columns: columns)
    try moments.add(x, threads: 2)
    let order = try #require(try ColumnOrder(moments, damping: 0.01, threads: 1))
    let values = Self.weights(rows * columns, seed: 15)
    let nearest = try Self.restored(.blockFP8, values, columns: columns, nil)
    let spread = try Self.restored(.blockFP8, values, columns: columns, order)
    #expect(Self.outputError(values, spread, x) < 0.4 * Self.outputError(values, nearest, x))
    #expect(zip(values, spread).allSatisfy { abs($0 - $1) < 0.3 })
  }

  @Test("formats without a code for each element are refused")
  func lattices() {
    for format: StorageFormat in [.element(.iq3S), .element(.iq2XXS), .element(.tq2_0), .keep] {
      #expect(throws: CheckpointError.self) {
        try GPTQEncoder(format, columns: 256, search: .mse, importance: nil)
      }
    }
  }
}
