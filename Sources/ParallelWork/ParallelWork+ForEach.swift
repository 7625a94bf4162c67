internal import Dispatch
internal import Synchronization

extension ParallelWork {
  /// Calls `body` for each index below `count`, on up to `threads` threads including the caller's, and returns when
  /// all are done. For loops over rows that write their results in place: a call costs about a microsecond, an
  /// iteration one atomic addition.
  ///
  /// - Parameter makeScratch: Creates the per-thread scratch that is kept from call to call.
  /// - Throws: The first error of any call; calls not started by then are skipped.
  public static func forEach<Scratch>(
    below count: Int, threads: Int, scratch makeScratch: @Sendable () -> Scratch,
    _ body: @Sendable (_ index: Int, _ scratch: inout Scratch) throws -> Void
  ) throws {
    guard count > 0 else { return }
    let loop = Loop()
    let width = min(threads, count)
    @Sendable func work() {
      var scratch = makeScratch()
      while !loop.hasFailed, let index = loop.next(below: count) {
        do { try body(index, &scratch) } catch { loop.fail(error) }
      }
    }
    if width <= 1 { work() } else { DispatchQueue.concurrentPerform(iterations: width) { _ in work() } }
    if let error = loop.error { throw error }
  }

  /// Calls `body` for each index below `count`; see ``forEach(below:threads:scratch:_:)``.
  public static func forEach(
    below count: Int, threads: Int, _ body: @Sendable (_ index: Int) throws -> Void
  ) throws {
    try forEach(below: count, threads: threads, scratch: {}) { index, _ in try body(index) }
  }

  private final class Loop: Sendable {
    private let position = Atomic(0)
    private let failed = Atomic(false)
    private let failure = Mutex<(any Error)?>(nil)

    var hasFailed: Bool { failed.load(ordering: .relaxed) }
    var error: (any Error)? { failure.withLock { $0 } }

    func next(below count: Int) -> Int? {
      let index = position.wrappingAdd(1, ordering: .relaxed).oldValue
      return index < count ? index : nil
    }

    func fail(_ error: any Error) {
      failure.withLock { if $0 == nil { $0 = error } }
      failed.store(true, ordering: .relaxed)
    }
  }
}
