extension Interruption {
  /// Runs `work` as a task that is cancelled when the user asks to stop.
  ///
  /// - Throws: What `work` throws; `CancellationError` after an interruption.
  public static func cancelling<Result: Sendable>(
    _ work: @escaping @Sendable () async throws -> Result
  ) async throws -> Result {
    watch()
    let task = Task { try await work() }
    let watcher = Task {
      while !isRequested { try await Task.sleep(for: .milliseconds(50)) }
      task.cancel()
    }
    defer { watcher.cancel() }
    return try await task.value
  }
}
