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
  ///   - matrix: `[rows, columns]`.
  ///   - results: The first of `[count, stride]`, of which `rows` are written per line.
  /// - Precondition: The buffers hold that much.
  @unsafe public static func multiply(
    _ vectors: UnsafePointer<Float>, count: Int, _ matrix: UnsafePointer<Float>, rows: Int, columns: Int,
    into results: UnsafeMutablePointer<Float>, stride: Int, tier: KernelTier = .active
  ) {
    unsafe cbk_row_products(tier.kernelValue, vectors, count, matrix, rows, columns, results, stride)
  }
}
