internal import CFileShims

extension Interruption {
  /// The message for an interrupted command that can be resumed.
  public static let canGoOn = "what is done is kept: the same command with --resume goes on from here"

  /// Runs `work` as a task that is cancelled when the user asks to stop.
  ///
  /// - Parameter words: The message if the process has to end before the work does; otherwise whoever catches the
  ///   cancellation prints it.
  /// - Throws: What `work` throws; `CancellationError` after an interruption.
  public static func cancelling<Result: Sendable>(
    saying words: String? = nil, _ work: @escaping @Sendable () async throws -> Result
  ) async throws -> Result {
    watch()
    if let words { unsafe cfs_set_last_words("\(words)\n") }
    defer { if words != nil { cfs_set_last_words(nil) } }
    let task = Task { try await work() }
    let watcher = Task {
      while !isRequested { try await Task.sleep(for: .milliseconds(50)) }
      task.cancel()
    }
    defer { watcher.cancel() }
    return try await task.value
  }
}
