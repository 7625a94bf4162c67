#if canImport(COpenBLAS)
internal import COpenBLAS
#else
internal import Accelerate
#endif

/// Matrix products through the system's BLAS: OpenBLAS on Linux, Accelerate on macOS.
///
/// The threads are ours: OpenBLAS is told to use one for each call, so that tiles run side by side.
enum BLAS {
  private static let isReady: Bool = {
    #if canImport(COpenBLAS)
    openblas_set_num_threads(1)
    #endif
    return true
  }()

  /// `c = factor · a · bᵀ`, or added to `c`.
  ///
  /// - Parameters:
  ///   - a: `[m, k]`, rows `aStride` apart.
  ///   - b: `[n, k]`, rows `bStride` apart.
  ///   - c: `[m, n]`, rows `cStride` apart.
  @unsafe static func multiplyTransposed(
    _ a: UnsafePointer<Float>, _ aStride: Int, _ b: UnsafePointer<Float>, _ bStride: Int,
    _ c: UnsafeMutablePointer<Float>, _ cStride: Int, m: Int, n: Int, k: Int, factor: Float = 1
  ) {
    precondition(isReady)
    guard m > 0, n > 0 else { return }
    unsafe cblas_sgemm(
      CblasRowMajor, CblasNoTrans, CblasTrans, Dimension(m), Dimension(n), Dimension(k), factor, a,
      Dimension(aStride), b, Dimension(bStride), 0, c, Dimension(cStride))
  }

  /// `c = a · b`.
  ///
  /// - Parameters:
  ///   - a: `[m, k]`, rows `aStride` apart.
  ///   - b: `[k, n]`, rows `bStride` apart.
  ///   - c: `[m, n]`, rows `cStride` apart.
  @unsafe static func multiply(
    _ a: UnsafePointer<Float>, _ aStride: Int, _ b: UnsafePointer<Float>, _ bStride: Int,
    _ c: UnsafeMutablePointer<Float>, _ cStride: Int, m: Int, n: Int, k: Int
  ) {
    precondition(isReady)
    guard m > 0, n > 0 else { return }
    unsafe cblas_sgemm(
      CblasRowMajor, CblasNoTrans, CblasNoTrans, Dimension(m), Dimension(n), Dimension(k), 1, a,
      Dimension(aStride), b, Dimension(bStride), 0, c, Dimension(cStride))
  }

  #if canImport(COpenBLAS)
  private typealias Dimension = blasint
  #else
  private typealias Dimension = Int32
  #endif
}
