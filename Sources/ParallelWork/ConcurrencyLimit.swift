internal import Synchronization

/// A bound on how many tasks do something at a time, such as reading from one source: first come, first served.
public final class ConcurrencyLimit: Sendable {
  private struct State {
    var free: Int
    var waiting: [CheckedContinuation<Void, Never>] = []
    /// The first of ``waiting`` that still waits: those before it have been let in.
    var first = 0
  }

  private let state: Mutex<State>

  /// - Parameter count: How many at a time, at least one.
  public init(_ count: Int) { state = Mutex(State(free: max(1, count))) }

  /// How many more may enter at once.
  public var free: Int { state.withLock { $0.free } }

  /// How many wait to be let in.
  public var waiting: Int { state.withLock { $0.waiting.count - $0.first } }

  /// Does something as soon as there is room. Who waits is not let in earlier for being cancelled.
  ///
  /// - Throws: What `body` throws.
  public func run<Output>(
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Output
  ) async rethrows -> Output {
    await enter()
    defer { leave() }
    return try await body()
  }

  private func enter() async {
    await withCheckedContinuation { continuation in
      state.withLock { state in
        guard state.free == 0 else {
          state.free -= 1
          return continuation.resume()
        }
        state.waiting.append(continuation)
      }
    }
  }

  private func leave() {
    state.withLock { state in
      guard state.first < state.waiting.count else {
        state.free += 1
        return
      }
      state.waiting[state.first].resume()
      state.first += 1
      guard state.first > 64 || state.first == state.waiting.count else { return }
      state.waiting.removeFirst(state.first)
      state.first = 0
    }
  }
}
