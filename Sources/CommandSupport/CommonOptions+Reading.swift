extension CommonOptions {
  /// Runs work that reads files, showing its progress, until it is done or the user interrupts it.
  ///
  /// - Parameters:
  ///   - activity: What the work is called.
  ///   - total: The bytes that it reads.
  ///   - work: Receives a function to call, from any thread, with the bytes read since the last call and their file.
  /// - Throws: What `work` throws; `CancellationError` after an interruption.
  public func reading<Result: Sendable>(
    _ activity: String, total: Int,
    _ work:
      @escaping @Sendable (_ progress: @escaping @Sendable (_ bytes: Int, _ file: String) -> Void)
      async throws -> Result
  ) async throws -> Result {
    let progress = progressReporter(activity, total: total)
    defer { progress.finish() }
    return try await Interruption.cancelling {
      try await work { bytes, file in
        progress.advance(by: bytes)
        progress.setItem(file)
      }
    }
  }
}
