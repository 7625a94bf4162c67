package import Quantization
package import QuantizationRecipes
internal import Step3Runtime
package import TensorFormats

/// Encodes rows of a weight as GPTQ does: scales first, from the weights as they are, then one column after another in
/// the order of their inputs' mean squares, compensating the error of each in the following ones. Groups stay where
/// they are ("static groups"), so no order needs to be stored.
///
/// Source of the arithmetic: llm-compressor 0.14 (`gptq_quantize.py`), which follows Frantar et al., "GPTQ: Accurate
/// Post-Training Quantization for Generative Pre-trained Transformers", arXiv:2210.17323. Differences: a column without
/// any input keeps its weights, rounded to nearest, instead of becoming 0; and the factor is computed in F64.
package struct GPTQEncoder: Sendable {
  /// The number of columns whose errors are spread over all others together.
  static let block = 128

  /// How scales are chosen, and the values that can be stored under them.
  private enum Form {
    case rows(RowScheme, SchemeGrid)
    case tiles
    case blocks(BlockCodec, BlockGrid)
  }

  private let form: Form
  let layout: CodeLayout
  let columns: Int
  let search: ScaleSearch
  let matrixScale: Float
  /// The weights of squares in the scale search.
  let importance: [Float]?

  /// - Parameters:
  ///   - format: A scheme, or a block type.
  ///   - search: How a scheme's scales are chosen; those of blocks are always searched, those of tiles never.
  ///   - importance: The mean square of each column's input.
  ///   - matrixScale: As it is stored; 1 where the format has none.
  /// - Throws: `.unsupported` for a format whose codes are not chosen one by one, `.malformed` if rows are not whole groups.
  package init(
    _ format: StorageFormat, columns: Int, search: ScaleSearch, importance: [Float]?, matrixScale: Float = 1
  ) throws(CheckpointError) {
    layout = try CodeLayout(format, columns: columns)
    self.columns = columns
    self.search = search
    self.matrixScale = matrixScale
    switch format {
    case .scheme(let stored) where stored.scheme == .fp8Tiles:
      form = .tiles
      self.importance = nil
    case .scheme(let stored):
      let scheme = try RowScheme(stored)
      form = .rows(scheme, SchemeGrid(scheme, matrixScale: matrixScale))
      self.importance = search == .mse ? importance : nil
    case .element(let type):
      guard let grid = BlockGrid(type), let codec = BlockCodec.codec(for: type) else {
        throw Self.refusal(format)
      }
      form = .blocks(codec, grid)
      self.importance = importance.map(Self.withoutZeros)
    case .keep: throw Self.refusal(format)
    }
  }

  private static func refusal(_ format: StorageFormat) -> CheckpointError {
    CheckpointError(.unsupported, "GPTQ does not choose the codes of \(format.spelling)")
  }

  /// Block encoders drop what is weighted with 0, but a column without input so far is still a weight.
  private static func withoutZeros(_ importance: [Float]) -> [Float] {
    let least = importance.reduce(0, +) / Float(max(1, importance.count)) * 1e-6
    return importance.map { max($0, least) }
  }

  package var codeBytes: Int { layout.codeBytes }
  package var scaleBytes: Int { layout.scaleBytes }
  /// The rows per band, fewer in the last: fixed, so that results are the same on any machine.
  package var band: Int { max(64, layout.scaleHeight) }

  /// Encodes rows.
  ///
  /// - Parameters:
  ///   - values: Rows of `columns` finite values, at most ``band`` of them, from a multiple of that on.
  ///   - order: `nil` to round to nearest.
  ///   - codes: Receives the rows' codes, or blocks.
  ///   - scales: Receives the rows' scales.
  package func encode(
    _ values: [Float], _ order: ColumnOrder?, codes: inout [UInt8], scales: inout [UInt8]
  ) throws(CheckpointError) {
    let rows = values.count / columns
    switch form {
    case .rows(let scheme, let grid):
      do {
        var codeSpan = codes.mutableSpan
        var scaleSpan = scales.mutableSpan
        var codeBytes = unsafe codeSpan.mutableBytes
        var scaleBytes = unsafe scaleSpan.mutableBytes
        try scheme.encode(
          values.span, columns: columns, importance: importance?.span, matrixScale: matrixScale,
          search: search, codes: &codeBytes, scales: &scaleBytes)
      }
      guard let order else { return }
      spread(values, order, grid, multipliers(grid, rows: rows, scales), &codes)
    case .tiles:
      let tiles = try BlockFP8(rows: rows, columns: columns)
      var multipliers = [Float](repeating: 0, count: tiles.scaleCount)
      do {
        var codeSpan = codes.mutableSpan
        var codeBytes = unsafe codeSpan.mutableBytes
        var scaleSpan = multipliers.mutableSpan
        var scratch = BlockFP8.Scratch()
        try tiles.encode(
          unsafe values.span.bytes, from: .f32, codes: &codeBytes, scales: &scaleSpan, scratch: &scratch,
          measures: false)
      }
      do {
        var span = scales.mutableSpan
        var bytes = unsafe span.mutableBytes
        for (index, scale) in multipliers.enumerated() {
          bytes.storeBytes(of: scale.bitPattern.littleEndian, toByteOffset: 4 * index, as: UInt32.self)
        }
      }
      guard let order else { return }
      spread(values, order, .tiles, multipliers, &codes)
    case .blocks(let codec, let grid):
      do {
        var span = codes.mutableSpan
        var bytes = unsafe span.mutableBytes
        try codec.encode(values.span, columns: columns, importance: importance?.span, into: &bytes)
      }
      guard let order else { return }
      let groups = grid.groups(of: unsafe codes.span.bytes)
      let (perRow, length) = (columns / grid.groupLength, grid.groupLength)
      let chosen = spread(values, order) { value, row, column in
        grid.nearest(value, in: groups[row * perRow + column / length])
      }
      var span = codes.mutableSpan
      var bytes = unsafe span.mutableBytes
      grid.store(chosen.span, in: &bytes)
    }
  }

  /// The factors for the codes: `[rows, groups]`.
  private func multipliers(_ grid: SchemeGrid, rows: Int, _ scales: [UInt8]) -> [Float] {
    let groups = columns / (grid.groupLength ?? columns)
    let bytes = unsafe scales.span.bytes
    return (0..<rows * groups).map { grid.multiplier(ofGroup: $0, in: bytes) }
  }

  private func spread(
    _ values: [Float], _ order: ColumnOrder, _ grid: SchemeGrid, _ multipliers: [Float],
    _ codes: inout [UInt8]
  ) {
    let length = grid.groupLength ?? columns
    let (groups, height) = ((columns + length - 1) / length, layout.scaleHeight)
    let chosen = spread(values, order) { value, row, column in
      grid.nearest(value, multiplier: multipliers[row / height * groups + column / length])
    }
    var span = codes.mutableSpan
    var bytes = unsafe span.mutableBytes
    for index in chosen.indices { grid.store(chosen[index], index, in: &bytes) }
  }

  /// Goes through the columns.
  ///
  /// - Parameter nearest: Given a value, row and column, returns the nearest code and its value.
  /// - Returns: The code of each element.
  private func spread(
    _ values: [Float], _ order: ColumnOrder,
    nearest: (_ value: Float, _ row: Int, _ column: Int) -> (code: UInt8, value: Float)
  ) -> [UInt8] {
    let (rows, columns) = (values.count / columns, columns)
    // The remaining weights, with columns in the order of the factor.
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
          let factor = unsafe order.factor.base + place * columns
          let value = unsafe base[place]
          let (code, near) = nearest(value, row, column)
          chosen[row * columns + column] = code
          let error = unsafe (value - near) / factor[place]
          errors[row * Self.block + place - first] = error
          for earlier in first..<place { unsafe base[earlier] -= error * factor[earlier] }
        }
      }
      unsafe BLAS.multiply(
        BLAS.Shape(m: rows, n: first, k: end - first), errors.base, Self.block,
        order.factor.base + first * columns, columns, rest.base, columns, factor: -1, kept: 1)
      end = first
    }
    return chosen
  }
}
