internal import CSanitizerNotes
internal import Dispatch
internal import Synchronization

/// Threads for calls that block on a device or a peer, so that they do not occupy Swift's cooperative pool, which
/// has only one thread per core.
public final class BlockingCalls: Sendable {
  /// Serial queues without a target: each gets a thread whenever it has work, whereas a concurrent queue gets no more
  /// threads than there are processors until it is found to be blocked.
  private let idle: Mutex<[DispatchQueue]>
  private let permits: Permits

  /// - Parameter width: The maximum number of concurrent calls.
  public init(_ label: String, width: Int) {
    idle = Mutex((0..<max(1, width)).map { DispatchQueue(label: "\(label).\($0)") })
    permits = Permits(width)
  }

  /// Runs `body` on one of the threads.
  ///
  /// - Throws: What `body` throws, and `CancellationError` if the task is cancelled while waiting.
  public func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await permits.with {
      let queue = idle.withLock { $0.removeLast() }
      defer { idle.withLock { $0.append(queue) } }
      // No other call uses this queue until this one is over. Swift's runtime orders the thread's work before the
      // task's next step, but does not tell ThreadSanitizer about it if the thread finishes before the task waits.
      defer { unsafe csn_taken_over(Unmanaged.passUnretained(queue).toOpaque()) }
      return try await withCheckedThrowingContinuation { continuation in
        queue.async {
          let outcome = Result { try body() }
          unsafe csn_handed_over(Unmanaged.passUnretained(queue).toOpaque())
          continuation.resume(with: outcome)
        }
      }
    }
  }
}
