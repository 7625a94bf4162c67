public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// One of the process's two output streams, written without a buffer of its own.
public enum StandardStream: Int32, Sendable {
  case output = 1
  case error = 2

  /// Writes all of `bytes`.
  ///
  /// When the reader is gone (`step3-inspect ... | head`), the rest is dropped silently: nobody reads it, and the
  /// command's exit code still tells what it found.
  /// - Throws: `.inputOutput` if writing fails for any other reason, such as a full disk.
  public func write(_ bytes: RawSpan) throws(CheckpointError) {
    var failure: CInt = 0
    unsafe bytes.withUnsafeBytes { source in
      guard let start = source.baseAddress else { return }
      var done = 0
      while done < source.count {
        let count = unsafe Self.systemWrite(rawValue, start + done, source.count - done)
        if count > 0 {
          done += count
        } else if count < 0, errno == EAGAIN {
          // Some process sharing the stream made it non-blocking: wait until it accepts more.
          var poller = pollfd(fd: rawValue, events: Int16(POLLOUT), revents: 0)
          unsafe poll(&poller, 1, 1000)
        } else if errno != EINTR {
          failure = errno
          return
        }
      }
    }
    guard failure == 0 || failure == EPIPE else {
      throw CheckpointError(
        .inputOutput, "writing failed: \(unsafe String(cString: strerror(failure)))",
        path: self == .output ? "<standard output>" : "<standard error>",
        remedy: failure == ENOSPC ? "the disk is full" : nil)
    }
  }

  /// Writes text.
  ///
  /// - Throws: As ``write(_:)-(RawSpan)``.
  public func write(_ text: String) throws(CheckpointError) {
    let bytes = Array(text.utf8)
    try unsafe write(bytes.span.bytes)
  }

  /// Writes one message as a line, with control characters escaped, wrapped if the terminal is too narrow.
  ///
  /// - Throws: As ``write(_:)-(RawSpan)``.
  public func write(message: String) throws(CheckpointError) {
    try write(message.escapingControlCharacters.wrapped(to: columns) + "\n")
  }

  /// Writes lines of prose, each wrapped if the terminal is too narrow. Lines with colour are left alone: they belong
  /// to tables.
  ///
  /// - Throws: As ``write(_:)-(RawSpan)``.
  public func write(sentences text: String) throws(CheckpointError) {
    try write(broken(text))
  }

  /// A text wrapped as by ``write(sentences:)``.
  func broken(_ text: String) -> String {
    guard let columns else { return text }
    return text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      line.contains("\u{1B}") ? String(line) : String(line).wrapped(to: columns)
    }.joined(separator: "\n")
  }

  /// Whether a person is looking at the stream.
  public var isTerminal: Bool { isatty(rawValue) == 1 }

  /// The columns of the terminal behind the stream; `nil` if there is none. `COLUMNS` overrules it.
  public var columns: Int? {
    guard isTerminal else { return nil }
    if let text = environment("COLUMNS"), let columns = Int(text), columns > 0 { return columns }
    var size = winsize()
    guard unsafe ioctl(rawValue, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
    return Int(size.ws_col)
  }

  private static func systemWrite(_ descriptor: CInt, _ start: UnsafeRawPointer, _ count: Int) -> Int {
    #if canImport(Glibc)
    return unsafe Glibc.write(descriptor, start, count)
    #else
    return unsafe Darwin.write(descriptor, start, count)
    #endif
  }
}

/// A variable of the environment; `nil` if it is not set.
func environment(_ name: String) -> String? {
  guard let value = unsafe getenv(name) else { return nil }
  return unsafe String(cString: value)
}
