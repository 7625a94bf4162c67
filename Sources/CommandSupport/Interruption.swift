internal import CFileShims
internal import Synchronization

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// Ctrl-C as a flag that long work checks between steps.
///
/// Until ``watch()`` is called a signal ends the process at once, which is right for short commands. From then on the
/// first SIGINT, SIGTERM or SIGHUP only sets ``isRequested``, so that the work can stop where it can go on later. It
/// has less than a second for that; then, or on a second signal, the process ends wherever it is, which is just as
/// safe: everything recorded is on the device, and the rest is done again. Signals that are ignored from the start
/// (`nohup`) stay ignored.
public enum Interruption {
  private static let requested = Atomic<Bool>(false)
  /// How long the work has to stop on its own.
  private static let graceMilliseconds: CInt = 800

  /// Whether the user asked to stop.
  public static var isRequested: Bool { requested.load(ordering: .relaxed) }

  /// Starts to catch the signals.
  public static func watch() {
    // Touched here, because a signal handler must not be the one to initialise it.
    _ = (isRequested, graceMilliseconds)
    for number in [SIGINT, SIGTERM, SIGHUP] {
      _ = cfs_catch_signal(number) { _ in
        if Interruption.requested.exchange(true, ordering: .relaxed) {
          cfs_say_last_words()
          _exit(ExitStatus.interrupted.rawValue)
        }
        cfs_set_deadline(Interruption.graceMilliseconds, ExitStatus.interrupted.rawValue)
      }
    }
  }

  /// - Throws: `CancellationError` if the user asked to stop.
  public static func check() throws {
    if isRequested { throw CancellationError() }
  }
}

/// Makes writing to a closed pipe, or beyond the file size limit (`ulimit -f`), fail with an error instead of
/// killing the process.
func failOnWriting() {
  for number in [SIGPIPE, SIGXFSZ] { signal(number, SIG_IGN) }
}
