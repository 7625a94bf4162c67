internal import ParallelWork
internal import Step3Runtime

/// For each column the sum of squares over all rows so far: Σ x², in F64, added in the order of the rows.
///
/// `@unchecked Sendable`: only one thread at a time calls it.
final class ColumnSquares: @unchecked Sendable {
  private let sums: SharedBuffer<Double>
  /// The number of rows so far.
  private(set) var count = 0

  init(columns: Int) { sums = SharedBuffer(count: columns) }

  var columns: Int { sums.count }

  /// The sums, by column.
  var values: [Double] { sums.array }

  /// Adds rows. Columns are divided between threads, rows never.
  func add(_ rows: Activations, threads: Int) throws {
    precondition(rows.columns == columns)
    count += rows.rows
    let (columns, stripe, sums) = (columns, 512, sums)
    try ParallelWork.forEach(below: (columns + stripe - 1) / stripe, threads: threads) { number in
      let range = number * stripe..<min((number + 1) * stripe, columns)
      for row in 0..<rows.rows {
        for column in range {
          let value = unsafe Double(rows.base[row * columns + column])
          unsafe sums.base[column] += value * value
        }
      }
    }
  }

  /// Counts `count` more rows, all of which have these squares.
  func fill(with squares: [Double], count: Int) {
    for column in squares.indices { sums[column] += squares[column] * Double(count) }
    self.count += count
  }
}
