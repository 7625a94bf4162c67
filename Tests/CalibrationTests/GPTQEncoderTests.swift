import Calibration
import CheckpointTesting
import Quantization
import Step3Runtime
import Testing

@Suite("GPTQ")
struct GPTQEncoderTests {
  static let scheme = StoredScheme(.int4Group(32), .compressedTensors)

  static func activations(_ rows: Int, _ columns: Int, seed: UInt64, dead: Set<Int> = []) -> Activations {
    var generator = SeededGenerator(seed: seed)
    // A few directions that all columns share, so that errors have somewhere to go.
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

  /// Encodes and decodes, and gives what it stands for.
  static func restored(
    _ values: [Float], columns: Int, _ order: ColumnOrder?
  ) throws -> (values: [Float], codes: [UInt8], scales: [UInt8]) {
    let encoder = try GPTQEncoder(scheme, columns: columns, search: .mse, importance: nil)
    let rows = values.count / columns
    var codes = [UInt8](repeating: 0, count: rows * (try encoder.codeBytes))
    var scales = [UInt8](repeating: 0, count: rows * (try encoder.scaleBytes))
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

  @Test("the scales are those of rounding to nearest, and the error of the output far less")
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

  @Test("a column that nothing enters keeps its weight and spreads no error")
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

  @Test("moments that are no numbers, and none at all, make no order")
  func refuses() throws {
    let moments = SecondMoments(columns: 32)
    #expect(try ColumnOrder(moments, damping: 0.01, threads: 1) == nil)
    var row = [Float](repeating: 1, count: 32)
    row[3] = .infinity
    try moments.add(Activations(rows: 1, columns: 32, row), threads: 1)
    #expect(try ColumnOrder(moments, damping: 0.01, threads: 1) == nil)
  }
}
