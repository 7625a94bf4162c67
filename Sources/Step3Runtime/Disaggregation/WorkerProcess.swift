internal import CFileShims
internal import Synchronization
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// A child process whose standard input is a socket to us. It never outlives this object, and leaves no zombie.
final class WorkerProcess: Sendable {
  /// The process id.
  let id: Int32

  /// How a process ended.
  struct End: Hashable, Sendable {
    /// `nil` if a signal ended it.
    let exitCode: Int32?
    /// `nil` if it ended itself.
    let signal: Int32?

    var description: String {
      if let signal { return "was ended by signal \(signal)" }
      return exitCode.map { "ended with exit code \($0)" } ?? "ended"
    }
  }

  /// `nil` while it runs. Its id is not reused by the system before this is set.
  private let end = Mutex<End?>(nil)

  /// Starts a program.
  ///
  /// - Parameters:
  ///   - input: Its standard input; the caller closes its own copy.
  /// - Throws: `.notFound` if it cannot be started.
  init(_ executable: String, _ arguments: [String], input: CInt) throws(CheckpointError) {
    var strings = unsafe ([executable] + arguments).map { unsafe strdup($0) }
    unsafe strings.append(nil)
    defer { unsafe strings.forEach { unsafe free($0) } }
    var process: CInt = 0
    let failure = unsafe cfs_spawn(executable, strings, input, &process)
    guard failure == 0 else {
      throw CheckpointError(
        .notFound, "the program cannot be started: \(unsafe String(cString: strerror(failure)))",
        path: executable)
    }
    id = process
  }

  deinit { stop() }

  /// Kills the process, if it is still running, and waits until it is gone.
  func stop() {
    end.withLock { end in
      guard end == nil else { return }
      kill(id, SIGKILL)
      end = Self.reap(id, wait: true)
    }
  }

  /// Waits up to about this many milliseconds for the process to exit by itself.
  ///
  /// - Returns: `nil` if it is still running.
  func waitForEnd(milliseconds: Int) -> End? {
    end.withLock { end in
      var left = milliseconds
      while end == nil {
        end = Self.reap(id, wait: false)
        guard end == nil, left > 0 else { break }
        usleep(2000)
        left -= 2
      }
      return end
    }
  }

  private static func reap(_ id: Int32, wait: Bool) -> End? {
    var (exitCode, signal): (CInt, CInt) = (-1, 0)
    let result = unsafe cfs_reap(id, wait ? 1 : 0, &exitCode, &signal)
    guard result != 0 else { return nil }
    // Negative means that somebody else reaped it: gone, but with unknown status.
    return End(exitCode: exitCode < 0 ? nil : exitCode, signal: signal == 0 ? nil : signal)
  }

  /// The current program.
  ///
  /// - Throws: `.notFound` if it cannot be determined.
  static func ownExecutable() throws(CheckpointError) -> String {
    var buffer = [CChar](repeating: 0, count: 1 << 14)
    let failure = unsafe cfs_executable_path(&buffer, buffer.count)
    guard failure == 0 else {
      throw CheckpointError(
        .notFound, "the path of this program is not known: \(unsafe String(cString: strerror(failure)))")
    }
    return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
  }
}
