internal import ParallelWork

/// The order in which GPTQ goes through the columns of a weight, and how the error of each spreads over the following
/// ones: the upper Cholesky factor U of the inverse of the second moments H, as H⁻¹ = Uᵀ U.
///
/// Columns are numbered from the last to the first here. In that numbering H = L Lᵀ has U as the rows and columns of
/// L⁻¹ from the end: one factor and one triangular inverse suffice.
///
/// Memory: during construction, 8 · columns² bytes in addition to the second moments, whose memory the factor takes
/// over.
package struct ColumnOrder: Sendable {
  let columns: Int
  /// The columns, last one first: by ascending mean square, the higher index first on ties.
  package let reversed: [Int]
  /// L⁻¹: `[columns, columns]`, row-major, the lower triangle.
  let factor: SharedBuffer<Float>

  /// - Parameters:
  ///   - moments: Used up: their memory is the factor's.
  ///   - damping: What is added to the diagonal, relative to its mean.
  ///   - byActivation: Whether the columns with the largest mean squares come first; otherwise they keep their order.
  /// - Returns: `nil` if the damped moments are not positive definite in F64.
  package init?(_ moments: SecondMoments, damping: Double, byActivation: Bool = true, threads: Int) throws {
    let columns = moments.columns
    guard moments.count > 0 else { return nil }
    var diagonal = (0..<columns).map { moments.mean($0, $0) }
    // Columns without any input spread no error.
    for column in diagonal.indices where diagonal[column] == 0 { diagonal[column] = 1 }
    let added = damping * diagonal.reduce(0, +) / Double(columns)
    guard added.isFinite else { return nil }
    let order =
      byActivation
      ? (0..<columns).sorted { diagonal[$0] != diagonal[$1] ? diagonal[$0] < diagonal[$1] : $0 > $1 }
      : (0..<columns).reversed()
    let matrix = SharedBuffer<Double>(count: columns * columns)
    let fixed = diagonal
    try ParallelWork.forEach(below: columns, threads: threads) { row in
      let own = order[row]
      for column in 0..<row { matrix[row * columns + column] = moments.mean(own, order[column]) }
      matrix[row * columns + row] = fixed[own] + added
    }
    let triangle = TriangularFactor(matrix, size: columns, threads: threads)
    guard try triangle.decompose() else { return nil }
    try triangle.invert()
    let factor = moments.sums
    try ParallelWork.forEach(below: columns, threads: threads) { row in
      for column in 0...row { factor[row * columns + column] = Float(triangle[row, column]) }
    }
    self.columns = columns
    reversed = order
    self.factor = factor
  }
}
