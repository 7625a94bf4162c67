internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

extension HTTPClient {
  /// Counts consecutive failures and waits between attempts.
  struct Patience {
    let client: HTTPClient
    let path: String
    private var failures = 0

    init(_ client: HTTPClient, path: String) {
      self.client = client
      self.path = path
    }

    /// Progress was made: earlier failures no longer count.
    mutating func reset() { failures = 0 }

    /// Waits before the next attempt.
    ///
    /// - Throws: The failure, if it is permanent or there were too many.
    mutating func wait(after failure: RequestFailure) throws(CheckpointError) {
      failures += 1
      let options = client.options
      var pause = min(options.firstDelay * Int(1 << min(failures - 1, 16)), options.longestDelay)
      var most = options.attempts
      switch failure {
      case .final(let error): throw error
      // A new signature costs a round trip and needs no pause, unless it did not help.
      case .expired: if failures == 1 { pause = .zero }
      case .passing(_, let wait, let attempts):
        if let wait { pause = wait }
        if let attempts { most = min(most, attempts) }
      }
      guard failures < most else {
        var error = failure.error
        error.message += ", \(failures) times in a row"
        throw error
      }
      do throws(RequestFailure) { try client.pause(pause, path) } catch { throw error.error }
    }
  }

  func pause(_ duration: Duration, _ path: String) throws(RequestFailure) {
    let end = ContinuousClock.now + duration
    while true {
      if Task.isCancelled { throw .final(Self.cancelled(path)) }
      let left = end - ContinuousClock.now
      guard left > .zero else { return }
      usleep(useconds_t(clamping: min(left.milliseconds, 100) * 1000 + 500))
    }
  }

  static func cancelled(_ path: String) -> CheckpointError {
    CheckpointError(.inputOutput, "reading was cancelled", path: path)
  }
}
