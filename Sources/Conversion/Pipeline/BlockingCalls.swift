internal import Dispatch

/// Threads for calls that wait for a device or a peer. Computing tasks keep theirs meanwhile: Swift has one for each
/// core, and none to spare for waiting.
struct BlockingCalls: Sendable {
  private let queue: DispatchQueue
  private let permits: Permits

  /// - Parameter width: How many calls there may be at a time.
  init(_ label: String, width: Int) {
    queue = DispatchQueue(label: label, attributes: .concurrent)
    permits = Permits(width)
  }

  /// Calls `body` on one of the threads.
  ///
  /// - Throws: What `body` throws, and `CancellationError` if the task is cancelled while it waits for its turn.
  func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await permits.with {
      try await withCheckedThrowingContinuation { continuation in
        queue.async { continuation.resume(with: Result { try body() }) }
      }
    }
  }
}
