import CommandSupport
import ParallelWork

extension CommonOptions {
  /// Runs `body` with a reporter that starts once the amount of work is known.
  func reporting<Result>(
    _ activity: String, _ body: ((Int) -> WorkMonitor) throws -> Result
  ) throws -> Result {
    var progress: ProgressReporter?
    defer { progress?.finish() }
    return try body { bytes in
      let reporter = progressReporter(activity, total: bytes)
      progress = reporter
      return WorkMonitor(advance: { reporter.advance(by: $0) }, item: { reporter.setItem($0) })
    }
  }
}

extension Interruption {
  /// Runs work that can be resumed, and says so if the user interrupts it.
  static func keepingWhatIsDone<Result: Sendable>(
    _ common: CommonOptions, _ work: @escaping @Sendable () throws -> Result
  ) async throws -> Result {
    do {
      return try await cancelling(saying: common.json ? nil : "step3-convert: warning: \(canGoOn)", work)
    } catch let error as CancellationError {
      if !common.json {
        CommonOptions.warn(
          "step3-convert", [Interruption.canGoOn])
      }
      throw error
    }
  }
}
