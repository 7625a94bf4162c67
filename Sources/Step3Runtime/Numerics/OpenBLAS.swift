#if !os(macOS)
internal import Synchronization
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#endif

/// OpenBLAS, loaded on demand.
///
/// If it cannot allocate one of its buffers it retries for ever, even in the threads that it starts on loading. So it
/// is loaded with a single thread, which needs no buffer, and the buffers for our threads are allocated and returned
/// right away, after checking that there is memory for them: it keeps them.
///
/// Source: OpenBLAS 0.3.21, `driver/others/memory.c` (`blas_memory_alloc`) and `blas_server.c`; `cblas.h` for the
/// interface.
enum OpenBLAS {
  /// `cblas_sgemm` with 32-bit sizes.
  private typealias MultiplySingle =
    @convention(c) (
      _ order: Int32, _ transposesA: Int32, _ transposesB: Int32, _ m: Int32, _ n: Int32, _ k: Int32,
      _ factor: Float, _ a: UnsafePointer<Float>, _ aStride: Int32, _ b: UnsafePointer<Float>,
      _ bStride: Int32,
      _ kept: Float, _ c: UnsafeMutablePointer<Float>, _ cStride: Int32
    ) -> Void

  /// `cblas_dgemm` with 32-bit sizes.
  private typealias MultiplyDouble =
    @convention(c) (
      _ order: Int32, _ transposesA: Int32, _ transposesB: Int32, _ m: Int32, _ n: Int32, _ k: Int32,
      _ factor: Double, _ a: UnsafePointer<Double>, _ aStride: Int32, _ b: UnsafePointer<Double>,
      _ bStride: Int32,
      _ kept: Double, _ c: UnsafeMutablePointer<Double>, _ cStride: Int32
    ) -> Void

  @safe private struct Library: @unchecked Sendable {
    let single: MultiplySingle
    let double: MultiplyDouble
    /// Allocate and return a buffer; `nil` in builds that do not export them.
    let takeBuffer: (@convention(c) (_ kind: Int32) -> UnsafeMutableRawPointer?)?
    let returnBuffer: (@convention(c) (UnsafeMutableRawPointer?) -> Void)?
  }

  /// The most that one thread needs: 128 MiB of address space, little of which is touched.
  private static let bufferBytes = 1 << 27

  private static let library: Result<Library, CheckpointError> = load()
  /// The most threads that buffers are prepared for. Not every build of the library has more.
  private static let mostBuffers = 64
  /// For how many threads there are buffers.
  private static let buffers = Mutex(0)

  static func prepare(threads: Int) throws(CheckpointError) {
    let library = try library.get()
    let threads = min(threads, mostBuffers)
    let error = buffers.withLock { prepared -> CheckpointError? in
      guard threads > prepared else { return nil }
      guard let take = unsafe library.takeBuffer, let giveBack = unsafe library.returnBuffer else {
        prepared = threads
        return nil
      }
      guard hasRoom(for: threads - prepared) else {
        return CheckpointError(
          .inputOutput,
          "there is no memory for the buffers of matrix products: \(threads - prepared) of "
            + "\(bufferBytes >> 20) MiB of address space",
          remedy: "give fewer --threads, or raise the limit on address space (ulimit -v)")
      }
      let taken = unsafe (0..<threads).map { _ in unsafe take(0) }
      unsafe taken.forEach { unsafe giveBack($0) }
      prepared = threads
      return nil
    }
    if let error { throw error }
  }

  /// Whether this many buffers can be mapped, with some reserve.
  private static func hasRoom(for count: Int) -> Bool {
    let bytes = count * bufferBytes + bufferBytes / 8
    let probe = unsafe mmap(
      nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    guard let probe = unsafe probe, unsafe probe != MAP_FAILED else { return false }
    unsafe munmap(probe, bytes)
    return true
  }

  private static func load() -> Result<Library, CheckpointError> {
    _ = unsafe setenv("OPENBLAS_NUM_THREADS", "1", 1)
    for name in ["libopenblas.so.0", "libopenblas.so"] {
      guard let handle = unsafe dlopen(name, RTLD_NOW | RTLD_LOCAL) else { continue }
      guard let single = unsafe dlsym(handle, "cblas_sgemm"), let double = unsafe dlsym(handle, "cblas_dgemm")
      else { continue }
      // Builds with OpenMP take the number from elsewhere.
      if let setThreads = unsafe dlsym(handle, "openblas_set_num_threads") {
        unsafe unsafeBitCast(setThreads, to: (@convention(c) (Int32) -> Void).self)(1)
      }
      let take = unsafe dlsym(handle, "blas_memory_alloc")
      let giveBack = unsafe dlsym(handle, "blas_memory_free")
      return .success(
        unsafe Library(
          single: unsafeBitCast(single, to: MultiplySingle.self),
          double: unsafeBitCast(double, to: MultiplyDouble.self),
          takeBuffer: take.map {
            unsafe unsafeBitCast($0, to: (@convention(c) (Int32) -> UnsafeMutableRawPointer?).self)
          },
          returnBuffer: giveBack.map {
            unsafe unsafeBitCast($0, to: (@convention(c) (UnsafeMutableRawPointer?) -> Void).self)
          }))
    }
    let reason = unsafe dlerror().map { unsafe String(cString: $0) } ?? "it has no cblas_sgemm"
    return .failure(
      CheckpointError(
        .unsupported, "OpenBLAS cannot be loaded: \(reason.printable)",
        remedy: "install it (Debian and Ubuntu: libopenblas0)"))
  }

  /// `c = factor · a · b + kept · c`, or of transposes. Call ``prepare(threads:)`` first.
  @unsafe static func multiply(
    _ shape: BLAS.Shape, _ a: UnsafePointer<Float>, _ aStride: Int, _ b: UnsafePointer<Float>, _ bStride: Int,
    _ c: UnsafeMutablePointer<Float>, _ cStride: Int, factor: Float, kept: Float
  ) {
    unsafe prepared.single(
      rowMajor, flag(shape.transposesA), flag(shape.transposesB), Int32(shape.m), Int32(shape.n),
      Int32(shape.k), factor, a, Int32(aStride), b, Int32(bStride), kept, c, Int32(cStride))
  }

  /// The same in F64.
  @unsafe static func multiply(
    _ shape: BLAS.Shape, _ a: UnsafePointer<Double>, _ aStride: Int, _ b: UnsafePointer<Double>,
    _ bStride: Int, _ c: UnsafeMutablePointer<Double>, _ cStride: Int, factor: Double, kept: Double
  ) {
    unsafe prepared.double(
      rowMajor, flag(shape.transposesA), flag(shape.transposesB), Int32(shape.m), Int32(shape.n),
      Int32(shape.k), factor, a, Int32(aStride), b, Int32(bStride), kept, c, Int32(cStride))
  }

  private static let rowMajor: Int32 = 101

  private static func flag(_ transposes: Bool) -> Int32 { transposes ? 112 : 111 }

  private static var prepared: Library {
    guard case .success(let library) = library else {
      preconditionFailure("products were not prepared")
    }
    return library
  }
}
#endif
