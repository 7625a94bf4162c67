internal import Synchronization

/// A counting semaphore for tasks: bounds how much is in progress at a time.
///
/// First come, first served, including requests for many permits: small requests cannot starve large ones.
public final class Permits: Sendable {
  private struct State {
    var available: Int
    var waiting: [(ticket: Int, amount: Int, continuation: CheckedContinuation<Void, any Error>)] = []
    var nextTicket = 0
  }

  private let total: Int
  private let state: Mutex<State>

  /// - Parameter total: The number of permits, at least one.
  public init(_ total: Int) {
    let total = max(1, total)
    self.total = total
    state = Mutex(State(available: total))
  }

  /// The number of free permits.
  public var available: Int { state.withLock { $0.available } }

  /// The number of waiting tasks.
  public var waitingCount: Int { state.withLock { $0.waiting.count } }

  /// Waits for permits. A request for more than the total is granted when all are free.
  ///
  /// - Throws: `CancellationError` if the task is cancelled while waiting.
  public func take(_ amount: Int = 1) async throws {
    let amount = min(amount, total)
    let ticket = state.withLock { state in
      defer { state.nextTicket += 1 }
      return state.nextTicket
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let settled: Result<Void, any Error>? = state.withLock { state in
          // A cancelled task would never be resumed.
          if Task.isCancelled { return .failure(CancellationError()) }
          if state.waiting.isEmpty, state.available >= amount {
            state.available -= amount
            return .success(())
          }
          state.waiting.append((ticket, amount, continuation))
          return nil
        }
        if let settled { continuation.resume(with: settled) }
      }
    } onCancel: {
      let (cancelled, ready) = state.withLock { state in
        let index = state.waiting.firstIndex { $0.ticket == ticket }
        let cancelled = index.map { state.waiting.remove(at: $0).continuation }
        // The next in line may be admitted now.
        return (cancelled, Self.admit(&state))
      }
      cancelled?.resume(throwing: CancellationError())
      for continuation in ready { continuation.resume() }
    }
  }

  /// Returns permits obtained from ``take(_:)``.
  public func giveBack(_ amount: Int = 1) {
    let ready = state.withLock { state in
      state.available += min(amount, total)
      return Self.admit(&state)
    }
    for continuation in ready { continuation.resume() }
  }

  /// Runs `body` while holding one permit.
  ///
  /// - Throws: What `body` throws, and as ``take(_:)``.
  public func with<Value>(
    isolation: isolated (any Actor)? = #isolation, _ body: () async throws -> Value
  ) async throws -> Value {
    try await take()
    defer { giveBack() }
    return try await body()
  }

  private static func admit(_ state: inout State) -> [CheckedContinuation<Void, any Error>] {
    var ready: [CheckedContinuation<Void, any Error>] = []
    while let first = state.waiting.first, first.amount <= state.available {
      state.available -= first.amount
      ready.append(first.continuation)
      state.waiting.removeFirst()
    }
    return ready
  }
}

/// Permits that are returned when the last reference to this object is released.
public final class HeldPermits: Sendable {
  private let permits: Permits
  private let amount: Int

  /// - Parameter amount: The number of permits taken.
  public init(_ permits: Permits, _ amount: Int) {
    self.permits = permits
    self.amount = amount
  }

  deinit { permits.giveBack(amount) }
}
