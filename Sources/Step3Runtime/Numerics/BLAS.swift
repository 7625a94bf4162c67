package import TensorFormats

#if os(macOS)
internal import Accelerate
#endif

/// Matrix products through the system's BLAS: OpenBLAS on Linux, Accelerate on macOS.
///
/// The threads are ours: OpenBLAS uses a single thread per call, so that tiles run in parallel. It is loaded for the
/// first product and not at process start, because it starts threads and reserves memory for them at once; see
/// ``OpenBLAS``.
package enum BLAS {
  /// Prepares everything that products on this many concurrent threads need. Call it before the first of them.
  ///
  /// - Throws: `.unsupported` if there is no OpenBLAS, `.inputOutput` if there is no memory for its buffers.
  package static func prepare(threads: Int) throws(CheckpointError) {
    #if !os(macOS)
    try OpenBLAS.prepare(threads: threads)
    #endif
  }

  /// The operands: `[m, k]` times `[k, n]`, row-major, each as stored or transposed.
  package struct Shape {
    var transposesA = false
    var transposesB = false
    var m: Int
    var n: Int
    var k: Int

    /// Describes a product.
    package init(transposesA: Bool = false, transposesB: Bool = false, m: Int, n: Int, k: Int) {
      self.transposesA = transposesA
      self.transposesB = transposesB
      self.m = m
      self.n = n
      self.k = k
    }
  }

  /// `c = factor · a · b + kept · c`.
  ///
  /// - Parameters:
  ///   - a: As stored, rows `aStride` apart.
  ///   - b: As stored, rows `bStride` apart.
  ///   - c: `[m, n]`, rows `cStride` apart.
  @unsafe package static func multiply(
    _ shape: Shape, _ a: UnsafePointer<Float>, _ aStride: Int, _ b: UnsafePointer<Float>, _ bStride: Int,
    _ c: UnsafeMutablePointer<Float>, _ cStride: Int, factor: Float = 1, kept: Float = 0
  ) {
    guard shape.m > 0, shape.n > 0 else { return }
    #if os(macOS)
    unsafe cblas_sgemm(
      CblasRowMajor, shape.transposesA ? CblasTrans : CblasNoTrans,
      shape.transposesB ? CblasTrans : CblasNoTrans, Int32(shape.m), Int32(shape.n), Int32(shape.k), factor,
      a, Int32(aStride), b, Int32(bStride), kept, c, Int32(cStride))
    #else
    unsafe OpenBLAS.multiply(shape, a, aStride, b, bStride, c, cStride, factor: factor, kept: kept)
    #endif
  }

  /// The same in F64.
  @unsafe package static func multiply(
    _ shape: Shape, _ a: UnsafePointer<Double>, _ aStride: Int, _ b: UnsafePointer<Double>, _ bStride: Int,
    _ c: UnsafeMutablePointer<Double>, _ cStride: Int, factor: Double = 1, kept: Double = 0
  ) {
    guard shape.m > 0, shape.n > 0 else { return }
    #if os(macOS)
    unsafe cblas_dgemm(
      CblasRowMajor, shape.transposesA ? CblasTrans : CblasNoTrans,
      shape.transposesB ? CblasTrans : CblasNoTrans, Int32(shape.m), Int32(shape.n), Int32(shape.k), factor,
      a, Int32(aStride), b, Int32(bStride), kept, c, Int32(cStride))
    #else
    unsafe OpenBLAS.multiply(shape, a, aStride, b, bStride, c, cStride, factor: factor, kept: kept)
    #endif
  }

  /// `c = factor · a · bᵀ`.
  ///
  /// - Parameters:
  ///   - a: `[m, k]`, rows `aStride` apart.
  ///   - b: `[n, k]`, rows `bStride` apart.
  ///   - c: `[m, n]`, rows `cStride` apart.
  @unsafe static func multiplyTransposed(
    _ a: UnsafePointer<Float>, _ aStride: Int, _ b: UnsafePointer<Float>, _ bStride: Int,
    _ c: UnsafeMutablePointer<Float>, _ cStride: Int, m: Int, n: Int, k: Int, factor: Float = 1
  ) {
    unsafe multiply(
      Shape(transposesB: true, m: m, n: n, k: k), a, aStride, b, bStride, c, cStride, factor: factor)
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
    unsafe multiply(Shape(m: m, n: n, k: k), a, aStride, b, bStride, c, cStride)
  }
}
