internal import Synchronization

/// Processes many units in parallel, within fixed bounds.
///
///     units ──► body, `threads` at a time ──► takeIn, one at a time
///     └──────────────── `inFlight` at most ────────────────┘
///
/// Units are pulled from their sequence one by one, each only when a slot is free, so that the sequence may be lazy
/// or endless. Memory is bounded by `inFlight` units, however many there are.
///
/// Bodies run on their own threads, outside Swift's cooperative pool: they may compute for a long time and block on
/// files without keeping other tasks from running.
public struct ParallelWork: Sendable {
  /// The number of bodies that run concurrently.
  public let threads: Int
  /// The maximum number of units pulled and not yet taken in.
  public let inFlight: Int

  /// The order in which results are taken in.
  public enum Delivery: Sendable {
    /// In the order of the units: results do not depend on the number of threads.
    case inOrder
    /// As bodies finish: no unit waits for a slower one.
    case asFinished
  }

  /// - Parameter inFlight: Defaults to `threads`. A larger number keeps the threads busy while a slow unit holds up
  ///   those after it.
  public init(threads: Int, inFlight: Int? = nil) {
    self.threads = max(1, threads)
    self.inFlight = max(1, inFlight ?? self.threads)
  }

  /// Works through all units.
  ///
  /// The first error ends the work: no further unit is pulled, the tasks of those in progress are cancelled, and no
  /// further result is taken in. With in-order delivery, it is the error of the first unit that fails; the units before
  /// it are taken in.
  ///
  /// - Parameters:
  ///   - units: Iterated once, by one thread at a time.
  ///   - makeScratch: Creates scratch that is reused from unit to unit, one for each unit in flight.
  ///   - body: Processes one unit, in parallel with others.
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
                // A cancelled body may still finish normally.
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
        // The first error thrown here cancels the remaining tasks.
        for try await _ in group {}
      }
    } onCancel: {
      _ = line.fail(CancellationError())
    }
    try line.check()
  }

  /// Works through all units without scratch; see ``run(_:delivering:scratch:_:takeIn:)``.
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

/// Hands out units, and admits their results one at a time.
private final class WaitingLine<Unit: Sendable>: Sendable {
  private struct State {
    let pull: () -> Unit?
    var pulled = 0
    /// How many bodies have finished; numbers the results that are delivered as they finish.
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

  /// The next unit and its number; `nil` when there are no more or the work has ended.
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

  /// Stops handing out units. Those in progress are finished.
  func close() { state.withLock { $0.isClosed = true } }

  /// Ends all work.
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

  /// Waits until the result of the unit with this number may be taken in.
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

  /// Admits the next result.
  func pass() {
    state.withLock { state in
      state.turn += 1
      state.waiting.removeValue(forKey: state.turn)?.resume()
    }
  }
}
