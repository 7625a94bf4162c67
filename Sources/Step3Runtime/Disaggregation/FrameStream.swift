internal import CFileShims
internal import Synchronization
public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

extension CheckpointError.Code {
  /// Another process does not answer.
  public static let unresponsive = Self(rawValue: "unresponsive")
}

/// Whole messages over a connected stream socket. Waiting ends when the task is cancelled.
///
/// `Sendable`: the descriptor is immutable and lives from `init` to `deinit`. One thread reads and one writes at a
/// time; ``RemoteRank`` and ``FFNServer`` ensure that.
final class FrameStream: Sendable {
  /// The connected socket.
  let descriptor: CInt
  /// How long the other side may be silent while a reply is due; `nil` for no limit.
  private let silence: Duration?
  private let sent = Atomic(0)
  private let received = Atomic(0)

  /// How long to wait between checks for cancellation, in milliseconds.
  private static let patience: CInt = 100
  /// A payload is received in pieces of this size, so that memory grows with what arrived, not with what was announced.
  private static let piece = 1 << 20

  /// Takes over a connected socket, which is closed with this object.
  init(owning descriptor: CInt, silence: Duration? = nil) {
    self.descriptor = descriptor
    self.silence = silence
  }

  deinit { close(descriptor) }

  /// Two connected ends, which started programs do not inherit.
  ///
  /// - Parameter silence: How long the first may wait for the second.
  /// - Throws: `.inputOutput`.
  static func pair(silence: Duration? = nil) throws(CheckpointError) -> (FrameStream, FrameStream) {
    var (first, second): (CInt, CInt) = (-1, -1)
    let failure = unsafe cfs_socket_pair(&first, &second)
    guard failure == 0 else { throw broken("no connection can be made", failure) }
    return (FrameStream(owning: first, silence: silence), FrameStream(owning: second))
  }

  /// Bytes sent and received so far.
  var traffic: (sent: Int, received: Int) {
    (sent.load(ordering: .relaxed), received.load(ordering: .relaxed))
  }

  /// Closes the connection for both sides; anyone waiting for it stops waiting.
  func hangUp() { _ = shutdown(descriptor, CInt(SHUT_RDWR)) }
}

// MARK: - Messages

extension FrameStream {
  /// Sends a message.
  ///
  /// - Throws: `.inputOutput` if the other side is gone, `CancellationError`.
  func send(_ kind: Frame.Kind, _ payload: [UInt8] = []) throws {
    guard payload.count <= kind.limit else {
      throw CheckpointError(
        .unsupported, "a message of \(payload.count) bytes is longer than the \(kind.limit) that are allowed")
    }
    try sendAll(Frame.header(kind, payloadBytes: payload.count))
    try sendAll(payload)
  }

  /// Waits for a message.
  ///
  /// - Returns: `nil` if the other side closed the connection between two messages.
  /// - Throws: `.truncated` if it ended in the middle of one, `.malformed` for an invalid message, `.unsupported` for
  ///   another version of the protocol, `.inputOutput`, `CancellationError`.
  func receive() throws -> Frame? {
    var header: [UInt8] = []
    guard try receive(Frame.headerBytes, into: &header) else {
      if header.isEmpty { return nil }
      throw Self.cut
    }
    let (kind, length) = try Frame.parseHeader(header)
    var payload: [UInt8] = []
    while payload.count < length {
      guard try receive(min(Self.piece, length - payload.count), into: &payload) else { throw Self.cut }
    }
    return Frame(kind: kind, payload: payload)
  }

  private static var cut: CheckpointError {
    CheckpointError(.truncated, "the connection ended in the middle of a message")
  }
}

// MARK: - Bytes

extension FrameStream {
  private func sendAll(_ bytes: [UInt8]) throws {
    var done = 0
    var last = ContinuousClock.now
    while done < bytes.count {
      let moved = unsafe bytes.withUnsafeBytes { source in
        unsafe cfs_send(descriptor, source.baseAddress.unsafelyUnwrapped + done, source.count - done)
      }
      if moved >= 0 {
        done += Int(moved)
        sent.wrappingAdd(Int(moved), ordering: .relaxed)
        last = .now
        continue
      }
      try checkSilence(since: last)
      try pause(after: CInt(-moved), "sending failed") { cfs_wait_writable(descriptor, Self.patience) }
    }
  }

  /// Appends the next bytes.
  ///
  /// - Returns: Whether all of them arrived; `false` if the connection ended first, with those that did.
  private func receive(_ count: Int, into bytes: inout [UInt8]) throws -> Bool {
    let end = bytes.count + count
    var done = bytes.count
    var last = ContinuousClock.now
    bytes.append(contentsOf: repeatElement(0, count: count))
    while done < end {
      let moved = unsafe bytes.withUnsafeMutableBytes { target in
        unsafe cfs_receive(descriptor, target.baseAddress.unsafelyUnwrapped + done, end - done)
      }
      if moved > 0 {
        done += Int(moved)
        received.wrappingAdd(Int(moved), ordering: .relaxed)
        last = .now
      } else if moved == 0 {
        bytes.removeLast(end - done)
        return false
      } else {
        try checkSilence(since: last)
        try pause(after: CInt(-moved), "receiving failed") { cfs_wait_readable(descriptor, Self.patience) }
      }
    }
    return true
  }

  /// - Throws: `.unresponsive` if the other side has been silent for too long.
  func checkSilence(since last: ContinuousClock.Instant) throws(CheckpointError) {
    guard let silence, last.duration(to: .now) > silence else { return }
    throw CheckpointError(
      .unresponsive, "it has not responded for \(silence.components.seconds) seconds",
      remedy: "check what its process is waiting for, or allow more time with --afd-timeout")
  }

  private func pause(after code: CInt, _ what: String, _ wait: () -> CInt) throws {
    try Task.checkCancellation()
    switch code {
    case EINTR: return
    case EAGAIN, EWOULDBLOCK:
      let result = wait()
      if result < 0 { throw Self.broken(what, -result) }
    default: throw Self.broken(what, code)
    }
  }

  static func broken(_ what: String, _ code: CInt) -> CheckpointError {
    CheckpointError(.inputOutput, "\(what): \(unsafe String(cString: strerror(code)))")
  }
}
