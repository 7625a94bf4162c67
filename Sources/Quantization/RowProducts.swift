internal import CBlockKernels

/// Products of a few vectors with the rows of a matrix.
public enum RowProducts {
  /// Computes `results[t][r]` = the sum of `vectors[t][c]` × `matrix[r][c]` over all columns.
  ///
  /// For a few vectors: with more than two dozen, a BLAS is faster. Sums are F32 and may be fused; tiers may differ in
  /// the last bits, thread counts and the number of vectors may not.
  ///
  /// - Parameters:
  ///   - vectors: `[count, columns]`.
  ///   - count: How many vectors there are.
  ///   - matrix: `[rows, columns]`.
  ///   - rows: Rows of the matrix.
  ///   - columns: Elements of a vector and of a row.
  ///   - results: The first of `[count, stride]`, of which `rows` are written per line.
  ///   - stride: Elements from one line of the results to the next, at least `rows`.
  ///   - tier: Which kernels to use.
  /// - Precondition: The buffers hold that much.
  @unsafe public static func multiply(
    _ vectors: UnsafePointer<Float>, count: Int, _ matrix: UnsafePointer<Float>, rows: Int, columns: Int,
    into results: UnsafeMutablePointer<Float>, stride: Int, tier: KernelTier = .active
  ) {
    unsafe cbk_row_products(tier.kernelValue, vectors, count, matrix, rows, columns, results, stride)
  }
}
