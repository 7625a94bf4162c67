internal import Dispatch
internal import Synchronization

/// Units of work done side by side whose results are taken in by one thread at a time, in the order of the units.
///
/// So a digest can run over bytes that many threads read, and sums do not depend on the number of threads. Each
/// thread keeps one scratch value for all its units, and a unit that is waiting for its turn keeps its thread: there
/// is never more in memory than one scratch value per thread.
package struct OrderedWork<Unit: Sendable, Scratch, Partial> {
  /// Makes what one thread reuses from unit to unit.
  let makeScratch: @Sendable () -> Scratch
  /// Works on one unit, side by side with other units.
  let compute: @Sendable (Unit, inout Scratch) throws -> Partial
  /// Takes in what came out, in order.
  let takeIn: @Sendable (Unit, Partial, borrowing Scratch) throws -> Void

  /// Describes the work.
  package init(
    makeScratch: @escaping @Sendable () -> Scratch,
    compute: @escaping @Sendable (Unit, inout Scratch) throws -> Partial,
    takeIn: @escaping @Sendable (Unit, Partial, borrowing Scratch) throws -> Void
  ) {
    self.makeScratch = makeScratch
    self.compute = compute
    self.takeIn = takeIn
  }

  /// Works off all units.
  ///
  /// - Throws: What the first failing unit, in their order, threw; or `CancellationError`. No unit after that one is
  ///   taken in.
  package func run(
    _ units: some IteratorProtocol<Unit> & Sendable, threads: Int, isCancelled: @escaping @Sendable () -> Bool
  ) throws {
    let queue = UnitQueue(units)
    DispatchQueue.concurrentPerform(iterations: max(1, threads)) { _ in
      var scratch = makeScratch()
      while let (turn, unit) = queue.next() {
        let result = Result {
          if isCancelled() { throw CancellationError() }
          return try compute(unit, &scratch)
        }
        // A thread that waits here has its unit, and so have all threads before it: none can wait for ever.
        queue.waitForTurn(turn)
        if !queue.hasFailed {
          do { try takeIn(unit, try result.get(), scratch) } catch { queue.fail(error) }
        }
        queue.passTurn()
      }
    }
    if let failure = queue.failure { throw failure }
  }
}

/// Hands units out in order and keeps whose turn it is.
private final class UnitQueue<Units: IteratorProtocol & Sendable>: Sendable where Units.Element: Sendable {
  private struct State {
    var units: Units
    var handedOut = 0
    var turn = 0
    var waiting: [Int: DispatchSemaphore] = [:]
    var failure: (any Error)?
  }

  private let state: Mutex<State>

  init(_ units: Units) { state = Mutex(State(units: units)) }

  var failure: (any Error)? { state.withLock { $0.failure } }
  var hasFailed: Bool { state.withLock { $0.failure != nil } }

  func fail(_ error: any Error) { state.withLock { $0.failure = error } }

  /// The next unit and its number; `nil` when there is none, or there is no point in going on.
  func next() -> (turn: Int, unit: Units.Element)? {
    state.withLock { state in
      guard state.failure == nil, let unit = state.units.next() else { return nil }
      defer { state.handedOut += 1 }
      return (state.handedOut, unit)
    }
  }

  func waitForTurn(_ turn: Int) {
    let semaphore: DispatchSemaphore? = state.withLock { state in
      guard state.turn != turn else { return nil }
      let semaphore = DispatchSemaphore(value: 0)
      state.waiting[turn] = semaphore
      return semaphore
    }
    semaphore?.wait()
  }

  func passTurn() {
    let next = state.withLock { state in
      state.turn += 1
      return state.waiting.removeValue(forKey: state.turn)
    }
    next?.signal()
  }
}
