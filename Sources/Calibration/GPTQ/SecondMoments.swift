internal import ParallelWork
package import Step3Runtime

/// The second moments of what enters a linear layer: Σ x xᵀ over the rows that came, in F32, the lower triangle.
///
/// Memory: 4 · columns² bytes. `@unchecked Sendable`: one thread at a time calls it.
package final class SecondMoments: @unchecked Sendable {
  let columns: Int
  /// `[columns, columns]`, of which what is above the diagonal's tiles stays 0.
  let sums: SharedBuffer<Float>
  /// Rows that came.
  package private(set) var count = 0

  /// Rows and columns of a tile of the sums; results do not depend on who adds up which.
  private static let tile = 256

  package init(columns: Int) {
    self.columns = columns
    sums = SharedBuffer(count: columns * columns)
  }

  /// Adds rows: 1 multiplication for each of them and each element of the triangle.
  package func add(_ rows: Activations, threads: Int) throws {
    precondition(rows.columns == columns)
    guard rows.rows > 0 else { return }
    try BLAS.prepare(threads: threads)
    count += rows.rows
    let (columns, sums, tiles) = (columns, sums, (columns + Self.tile - 1) / Self.tile)
    try ParallelWork.forEach(below: tiles, threads: threads) { number in
      // The longest first.
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
