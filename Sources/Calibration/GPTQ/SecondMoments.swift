internal import ParallelWork
package import Step3Runtime

/// The second moments of a linear layer's input: Σ x xᵀ over all rows so far, in F32, the lower triangle.
///
/// Memory: 4 · columns² bytes. `@unchecked Sendable`: only one thread at a time calls it.
package final class SecondMoments: @unchecked Sendable {
  let columns: Int
  /// `[columns, columns]`, with zeros above the tiles on the diagonal.
  let sums: SharedBuffer<Float>
  /// The number of rows so far.
  package private(set) var count = 0

  /// Rows and columns of a tile of the sums; results do not depend on which thread sums which.
  private static let tile = 256

  package init(columns: Int) {
    self.columns = columns
    sums = SharedBuffer(count: columns * columns)
  }

  /// Adds rows: one multiplication per row and element of the triangle.
  package func add(_ rows: Activations, threads: Int) throws {
    precondition(rows.columns == columns)
    guard rows.rows > 0 else { return }
    try BLAS.prepare(threads: threads)
    count += rows.rows
    let (columns, sums, tiles) = (columns, sums, (columns + Self.tile - 1) / Self.tile)
    try ParallelWork.forEach(below: tiles, threads: threads) { number in
      // Longest first.
      let first = (tiles - 1 - number) * Self.tile
      let end = min(first + Self.tile, columns)
      unsafe BLAS.multiply(
        BLAS.Shape(transposesA: true, m: end - first, n: end, k: rows.rows), rows.base + first, columns,
        rows.base, columns, sums.base + first * columns, columns, kept: 1)
    }
  }

  /// The mean square of each column; zeros over no rows.
  var meanSquares: [Float] {
    (0..<columns).map { count == 0 ? 0 : sums[$0 * columns + $0] / Float(count) }
  }

  /// The mean of x[row] · x[column].
  func mean(_ row: Int, _ column: Int) -> Double {
    let (low, high) = row < column ? (row, column) : (column, row)
    return Double(sums[high * columns + low]) / Double(count)
  }
}
