internal import TensorFormats

#if os(macOS)
internal import Accelerate
#endif

/// Matrix products through the system's BLAS: OpenBLAS on Linux, Accelerate on macOS.
///
/// The threads are ours: OpenBLAS is told to use one for each call, so that tiles run side by side. It is loaded when the
/// first product is wanted and not with the process, because it starts threads and reserves memory for them at once; see
/// ``OpenBLAS``.
enum BLAS {
  /// Has everything there that products on so many threads at a time need. Call it before the first of them.
  ///
  /// - Throws: `.unsupported` if there is no OpenBLAS, `.inputOutput` if its buffers find no room.
  static func prepare(threads: Int) throws(CheckpointError) {
    #if !os(macOS)
    try OpenBLAS.prepare(threads: threads)
    #endif
  }

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
    guard m > 0, n > 0 else { return }
    #if os(macOS)
    unsafe cblas_sgemm(
      CblasRowMajor, CblasNoTrans, CblasTrans, Int32(m), Int32(n), Int32(k), factor, a, Int32(aStride), b,
      Int32(bStride), 0, c, Int32(cStride))
    #else
    unsafe OpenBLAS.multiply(
      transposesB: true, a, aStride, b, bStride, c, cStride, m: m, n: n, k: k, factor: factor)
    #endif
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
    guard m > 0, n > 0 else { return }
    #if os(macOS)
    unsafe cblas_sgemm(
      CblasRowMajor, CblasNoTrans, CblasNoTrans, Int32(m), Int32(n), Int32(k), 1, a, Int32(aStride), b,
      Int32(bStride), 0, c, Int32(cStride))
    #else
    unsafe OpenBLAS.multiply(
      transposesB: false, a, aStride, b, bStride, c, cStride, m: m, n: n, k: k, factor: 1)
    #endif
  }
}
