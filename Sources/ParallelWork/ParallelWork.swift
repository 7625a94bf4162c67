internal import Synchronization

/// Work on many units side by side, within stated bounds.
///
///     units ──► body, `threads` at a time ──► takeIn, one at a time
///     └────────────── `inFlight` at the most ──────────────┘
///
/// Units are pulled from their sequence one by one, each only when there is room for it, so that the sequence may be
/// lazy, or endless. Memory is what `inFlight` units hold, whatever their number.
///
/// Bodies run on threads of their own, outside the pool that Swift's tasks share: they may compute for as long as they
/// like and wait for files without keeping any other task from running.
public struct ParallelWork: Sendable {
  /// How many bodies run at a time.
  public let threads: Int
  /// How many units may have been pulled and not yet taken in.
  public let inFlight: Int

  /// In which order results are taken in.
  public enum Delivery: Sendable {
    /// In the order of the units: results do not depend on the number of threads.
    case inOrder
    /// As bodies finish: no unit waits for a slower one.
    case asFinished
  }

  /// - Parameter inFlight: As many as `threads` unless given. More of them keep the threads busy while a slow unit holds
  ///   up those behind it.
  public init(threads: Int, inFlight: Int? = nil) {
    self.threads = max(1, threads)
    self.inFlight = max(1, inFlight ?? self.threads)
  }

  /// Works through all units.
  ///
  /// The first error ends the work: no further unit is pulled, the tasks of those under way are cancelled, and nothing is
  /// taken in any more. In order, the first is that of the first unit that fails; the units before it are taken in.
  ///
  /// - Parameters:
  ///   - units: Iterated once, by one thread at a time.
  ///   - makeScratch: Makes what is used again from unit to unit. There is one for each unit in flight.
  ///   - body: Works on one unit, side by side with other units.
  ///   - takeIn: Takes a result, one at a time. The scratch is as the body left it.
  /// - Throws: The first error; `CancellationError` if the calling task is cancelled.
  public func run<Unit: Sendable, Scratch, Output>(
    _ units: sending some Sequence<Unit>, delivering delivery: Delivery = .inOrder,
    scratch makeScratch: @escaping @Sendable () -> Scratch,
    _ body: @escaping @Sendable (Unit, inout Scratch) async throws -> Output,
    takeIn: @escaping @Sendable (Unit, Output, borrowing Scratch) async throws -> Void
  ) async throws {
    let line = WaitingLine(units, delivery)
    let permits = Permits(threads)
    try await withTaskCancellationHandler {
      try await withThrowingTaskGroup(of: Void.self) { group in
        for _ in 0..<inFlight {
          group.addTask(executorPreference: WorkerThread()) {
            guard var (number, unit) = line.next() else { return }
            var scratch = makeScratch()
            while true {
              let result: Result<Output, any Error>
              do {
                result = .success(
                  try await permits.with {
                    try line.check()
                    try Task.checkCancellation()
                    return try await body(unit, &scratch)
                  })
              } catch {
                line.close()
                result = .failure(error)
              }
              try await line.turn(of: number)
              do {
                // A body that is cancelled may come to its end as if nothing had happened.
                try Task.checkCancellation()
                try await takeIn(unit, try result.get(), scratch)
              } catch {
                throw line.fail(error)
              }
              line.pass()
              guard let next = line.next() else { return }
              (number, unit) = next
            }
          }
        }
        // The first error that is thrown here cancels the tasks that are left.
        for try await _ in group {}
      }
    } onCancel: {
      _ = line.fail(CancellationError())
    }
    try line.check()
  }

  /// Works through all units whose bodies keep nothing from one to the next; see
  /// ``run(_:delivering:scratch:_:takeIn:)``.
  public func run<Unit: Sendable, Output>(
    _ units: sending some Sequence<Unit>, delivering delivery: Delivery = .inOrder,
    _ body: @escaping @Sendable (Unit) async throws -> Output,
    takeIn: @escaping @Sendable (Unit, Output) async throws -> Void
  ) async throws {
    try await run(units, delivering: delivery, scratch: {}) { unit, _ in
      try await body(unit)
    } takeIn: { unit, output, _ in
      try await takeIn(unit, output)
    }
  }
}

/// Hands out units, and lets their results pass one by one.
private final class WaitingLine<Unit: Sendable>: Sendable {
  private struct State {
    let pull: () -> Unit?
    var pulled = 0
    /// How many bodies have finished; the numbers of results that are delivered as they come.
    var finished = 0
    /// Whose turn it is.
    var turn = 0
    var waiting: [Int: CheckedContinuation<Void, any Error>] = [:]
    var isClosed = false
    var failure: (any Error)?
  }

  private let state: Mutex<State>
  private let delivery: ParallelWork.Delivery

  init(_ units: sending some Sequence<Unit>, _ delivery: ParallelWork.Delivery) {
    var iterator = units.makeIterator()
    state = Mutex(State(pull: { iterator.next() }))
    self.delivery = delivery
  }

  /// The next unit and its number; `nil` when there is none, or no point in going on.
  func next() -> (number: Int, unit: Unit)? {
    state.withLock { state in
      guard !state.isClosed, let unit = state.pull() else {
        state.isClosed = true
        return nil
      }
      defer { state.pulled += 1 }
      return (state.pulled, unit)
    }
  }

  /// Hands out no further unit. Those that are under way come to their end.
  func close() { state.withLock { $0.isClosed = true } }

  /// Ends everything.
  ///
  /// - Returns: The first error.
  func fail(_ error: any Error) -> any Error {
    state.withLock { state in
      let first = state.failure ?? error
      state.failure = first
      state.isClosed = true
      for continuation in state.waiting.values { continuation.resume(throwing: first) }
      state.waiting = [:]
      return first
    }
  }

  /// - Throws: The error with which everything ended, if it did.
  func check() throws { if let failure = state.withLock({ $0.failure }) { throw failure } }

  /// Waits until the result of the unit of that number may be taken in.
  ///
  /// - Throws: The error with which everything ended before.
  func turn(of number: Int) async throws {
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      state.withLock { state in
        if let failure = state.failure { return continuation.resume(throwing: failure) }
        let turn = delivery == .inOrder ? number : state.finished
        state.finished += 1
        if state.turn == turn { continuation.resume() } else { state.waiting[turn] = continuation }
      }
    }
  }

  /// Lets the next result pass.
  func pass() {
    state.withLock { state in
      state.turn += 1
      state.waiting.removeValue(forKey: state.turn)?.resume()
    }
  }
}
