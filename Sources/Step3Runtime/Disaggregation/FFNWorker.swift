internal import CFileShims
internal import Checkpoint
internal import Dispatch
internal import StoredWeights
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// A process that serves one feed-forward part: what ``AFDSession`` starts.
public enum FFNWorker {
  /// The hidden subcommand under which a program runs this, and its options.
  public static let subcommand = "ffn-worker"

  /// Opens only this part, and serves it until the other side is gone.
  ///
  /// The process ends at once when the other side disappears, even in the middle of a layer. Interrupts from the
  /// terminal are handled by the other side.
  ///
  /// - Parameters:
  ///   - part: The part's directory.
  ///   - threads: How many threads compute.
  ///   - descriptor: A connected stream socket, which is taken over: the worker's standard input.
  /// - Throws: Any error; the other side has been notified.
  public static func run(part: String, threads: Int, descriptor: Int32 = 0) throws {
    for number in [SIGINT, SIGHUP] { signal(number, SIG_IGN) }
    let stream = FrameStream(owning: descriptor)
    // A separate queue has its own thread. It keeps the stream alive: closing it while an error propagates would look
    // like a lost connection.
    DispatchQueue(label: "connection").async {
      withExtendedLifetime(stream) {
        if cfs_wait_hangup(descriptor) == 0 { _exit(lostConnection) }
      }
    }
    let server: FFNServer
    do {
      server = try FFNServer(ModelWeights(Checkpoint.open(part)), Products(threads: threads))
    } catch {
      FFNServer.report(error, on: stream)
      throw error
    }
    try server.serve(stream)
  }

  /// `EX_IOERR` of `sysexits.h`.
  private static let lostConnection: Int32 = 74
}
