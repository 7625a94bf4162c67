internal import CSanitizerNotes
internal import Dispatch
internal import Synchronization

/// Threads for calls that wait for a device or a peer. Computing tasks keep theirs meanwhile: Swift has one for each
/// core, and none to spare for waiting.
public final class BlockingCalls: Sendable {
  /// Serial queues without a target: each gets a thread whenever it has something to run, where a concurrent one gets no
  /// more than there are processors until it is seen to be stuck.
  private let idle: Mutex<[DispatchQueue]>
  private let permits: Permits

  /// - Parameter width: How many calls there may be at a time.
  public init(_ label: String, width: Int) {
    idle = Mutex((0..<max(1, width)).map { DispatchQueue(label: "\(label).\($0)") })
    permits = Permits(width)
  }

  /// Calls `body` on one of the threads.
  ///
  /// - Throws: What `body` throws, and `CancellationError` if the task is cancelled while it waits for its turn.
  public func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    try await permits.with {
      let queue = idle.withLock { $0.removeLast() }
      defer { idle.withLock { $0.append(queue) } }
      // Nobody else has this queue until the call is over. Swift's runtime orders what the thread did before what the task
      // does next, but tells ThreadSanitizer nothing of it where the thread is done before the task waits.
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
