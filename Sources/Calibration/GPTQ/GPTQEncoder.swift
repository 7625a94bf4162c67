package import Quantization
internal import Step3Runtime
package import TensorFormats

/// Encodes rows of a weight as GPTQ does: scales first, from the weights as they are, then one column after the other in
/// the order of the mean squares of what enters them, the error of each made good in those that follow. Groups stay
/// where they are ("static groups"), so that what is stored needs no order.
///
/// Source of the arithmetic: llm-compressor 0.14 (`gptq_quantize.py`), which follows Frantar et al., "GPTQ: Accurate
/// Post-Training Quantization for Generative Pre-trained Transformers", arXiv:2210.17323. Where this differs: a column
/// that nothing enters keeps its weights, rounded to nearest, instead of becoming 0; and the factor is computed in F64.
package struct GPTQEncoder: Sendable {
  /// Columns whose errors are spread over all others together.
  static let block = 128
  /// Rows that go together.
  static let band = 64

  let scheme: RowScheme
  let grid: SchemeGrid
  let columns: Int
  let search: ScaleSearch
  let matrixScale: Float
  /// What the squares of the scale's search are weighted with.
  let importance: [Float]?

  package init(
    _ stored: StoredScheme, columns: Int, search: ScaleSearch, importance: [Float]?, matrixScale: Float = 1
  ) throws(CheckpointError) {
    scheme = try RowScheme(stored)
    grid = SchemeGrid(scheme, matrixScale: matrixScale)
    self.columns = columns
    self.search = search
    self.matrixScale = matrixScale
    self.importance = search == .mse ? importance : nil
  }

  package var codeBytes: Int { get throws(CheckpointError) { try scheme.codeBytes(columns: columns) } }
  package var scaleBytes: Int { get throws(CheckpointError) { try scheme.scaleBytes(columns: columns) } }

  /// Encodes rows.
  ///
  /// - Parameters:
  ///   - values: Rows of `columns` finite values, at most ``band`` of them for one result on any machine.
  ///   - order: `nil` to round to nearest.
  ///   - codes: Receives the rows' codes.
  ///   - scales: Receives the rows' scales.
  package func encode(
    _ values: [Float], _ order: ColumnOrder?, codes: inout [UInt8], scales: inout [UInt8]
  ) throws(CheckpointError) {
    do {
      var codeSpan = codes.mutableSpan
      var scaleSpan = scales.mutableSpan
      var codeBytes = unsafe codeSpan.mutableBytes
      var scaleBytes = unsafe scaleSpan.mutableBytes
      try scheme.encode(
        values.span, columns: columns, importance: importance?.span, matrixScale: matrixScale, search: search,
        codes: &codeBytes, scales: &scaleBytes)
    }
    guard let order else { return }
    spread(values, order, &codes, multipliers(rows: values.count / columns, scales))
  }

  /// What the codes are multiplied with: `[rows, groups]`.
  private func multipliers(rows: Int, _ scales: [UInt8]) -> [Float] {
    let groups = columns / (grid.groupLength ?? columns)
    let bytes = unsafe scales.span.bytes
    return (0..<rows * groups).map { grid.multiplier(ofGroup: $0, in: bytes) }
  }

  private func spread(
    _ values: [Float], _ order: ColumnOrder, _ codes: inout [UInt8], _ multipliers: [Float]
  ) {
    let (rows, columns, length) = (values.count / columns, columns, grid.groupLength ?? columns)
    let groups = columns / length
    // What is left of the weights, columns in the order of the factor.
    let rest = SharedBuffer<Float>(count: rows * columns)
    for row in 0..<rows {
      for (place, column) in order.reversed.enumerated() {
        rest[row * columns + place] = values[row * columns + column]
      }
    }
    var chosen = [UInt8](repeating: 0, count: rows * columns)
    let errors = SharedBuffer<Float>(count: rows * Self.block)
    var end = columns
    while end > 0 {
      let first = max(0, end - Self.block)
      for row in 0..<rows {
        let base = unsafe rest.base + row * columns
        for place in (first..<end).reversed() {
          let column = order.reversed[place]
          let multiplier = multipliers[row * groups + column / length]
          let factor = unsafe order.factor.base + place * columns
          let value = unsafe base[place]
          let (code, nearest) = grid.nearest(value, multiplier: multiplier)
          chosen[row * columns + column] = code
          let error = unsafe (value - nearest) / factor[place]
          errors[row * Self.block + place - first] = error
          for earlier in first..<place { unsafe base[earlier] -= error * factor[earlier] }
        }
      }
      unsafe BLAS.multiply(
        BLAS.Shape(m: rows, n: first, k: end - first), errors.base, Self.block,
        order.factor.base + first * columns, columns, rest.base, columns, factor: -1, kept: 1)
      end = first
    }
    var span = codes.mutableSpan
    var bytes = unsafe span.mutableBytes
    for index in chosen.indices { grid.store(chosen[index], index, in: &bytes) }
  }
}
