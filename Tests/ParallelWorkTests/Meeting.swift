import Dispatch
import Synchronization
import Testing

/// A point where threads wait for each other, so that tests force the interleaving they need instead of hoping for it.
final class Meeting: Sendable {
  private struct State {
    var happened: Set<String> = []
    var waiting: [String: [DispatchSemaphore]] = [:]
  }

  private let state = Mutex(State())

  /// Signals that the event has happened.
  func announce(_ event: String) {
    state.withLock { state in
      state.happened.insert(event)
      for semaphore in state.waiting.removeValue(forKey: event) ?? [] { semaphore.signal() }
    }
  }

  /// Whether the event has happened, for callers that must not block their thread.
  func hasHappened(_ event: String) -> Bool { state.withLock { $0.happened.contains(event) } }

  /// Waits until the event has happened. A test that waits in vain fails instead of hanging.
  func await(_ event: String, _ location: SourceLocation = #_sourceLocation) {
    let semaphore: DispatchSemaphore? = state.withLock { state in
      guard !state.happened.contains(event) else { return nil }
      let semaphore = DispatchSemaphore(value: 0)
      state.waiting[event, default: []].append(semaphore)
      return semaphore
    }
    guard let semaphore, semaphore.wait(timeout: .now() + 300) == .timedOut else { return }
    Issue.record("'\(event)' never happened", sourceLocation: location)
  }
}

/// Counts concurrent work.
final class Counter: Sendable {
  private let state = Mutex((now: 0, peak: 0, total: 0))

  var peak: Int { state.withLock { $0.peak } }
  var total: Int { state.withLock { $0.total } }

  /// - Returns: How many are in progress now.
  @discardableResult func enter() -> Int {
    state.withLock { state in
      state.now += 1
      state.total += 1
      state.peak = max(state.peak, state.now)
      return state.now
    }
  }

  func leave() { state.withLock { $0.now -= 1 } }
}

/// The results that were consumed, in order.
final class Log<Entry: Sendable>: Sendable {
  private let state = Mutex<[Entry]>([])
  var entries: [Entry] { state.withLock { $0 } }
  func append(_ entry: Entry) { state.withLock { $0.append(entry) } }
}

struct Fault: Error, Equatable {
  let number: Int
}
