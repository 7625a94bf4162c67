internal import Dispatch
internal import Synchronization

/// Runs pieces of one job side by side and returns when all are done.
enum Workers {
  /// Calls `body` for each number below `count`, on up to `threads` threads at a time.
  ///
  /// - Parameter makeScratch: Makes what one thread keeps from piece to piece.
  /// - Throws: The first error of any piece; pieces not begun by then are left out.
  static func run<Scratch>(
    _ count: Int, threads: Int, scratch makeScratch: @Sendable () -> Scratch,
    _ body: @Sendable (_ piece: Int, _ scratch: inout Scratch) throws -> Void
  ) throws {
    guard count > 0 else { return }
    let state = SharedState()
    let width = min(threads, count)
    @Sendable func work() {
      var scratch = makeScratch()
      while !state.hasFailed, let piece = state.next(below: count) {
        do { try body(piece, &scratch) } catch { state.fail(error) }
      }
    }
    if width <= 1 { work() } else { DispatchQueue.concurrentPerform(iterations: width) { _ in work() } }
    if let error = state.error { throw error }
  }

  /// Calls `body` for each number below `count`, on up to `threads` threads at a time.
  static func run(_ count: Int, threads: Int, _ body: @Sendable (_ piece: Int) throws -> Void) throws {
    try run(count, threads: threads, scratch: {}) { piece, _ in try body(piece) }
  }

  private final class SharedState: Sendable {
    private let position = Atomic(0)
    private let failed = Atomic(false)
    private let failure = Mutex<(any Error)?>(nil)

    var hasFailed: Bool { failed.load(ordering: .relaxed) }
    var error: (any Error)? { failure.withLock { $0 } }

    func next(below count: Int) -> Int? {
      let piece = position.wrappingAdd(1, ordering: .relaxed).oldValue
      return piece < count ? piece : nil
    }

    func fail(_ error: any Error) {
      failure.withLock { if $0 == nil { $0 = error } }
      failed.store(true, ordering: .relaxed)
    }
  }
}
