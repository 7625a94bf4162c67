internal import CCurl

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// A single request to a server.
struct WebRequest: Sendable {
  enum Method: Sendable { case get, head }

  var method = Method.get
  var address: WebAddress
  /// The bytes requested; `nil` for all.
  var range: ClosedRange<Int>?
  /// A secret to send to this address.
  var token: String?
  /// Whether a non-public address is allowed.
  var allowsPrivateAddress: Bool
}

/// The response to one request as it arrives, and the destination of its body.
///
/// Bytes are copied once, from libcurl's buffer to their destination.
@safe final class Exchange {
  /// What to do with a body.
  enum Disposition {
    /// Skip its first bytes, copy `count` bytes to the target, and expect no more.
    case fill(skipping: Int, count: Int)
    /// Collect it, up to the given number of bytes.
    case collect(most: Int)
    /// Discard it.
    case ignore
  }

  /// The destination of file bytes. Outlives the exchange, which runs inside the caller's `withUnsafeMutableBytes`.
  private let target: UnsafeMutableRawBufferPointer
  private let decide: (ResponseHead) -> Disposition

  private(set) var head: ResponseHead?
  /// The number of bytes of the target that are filled.
  private(set) var filled = 0
  /// The collected body.
  private(set) var collected: [UInt8] = []
  /// Whether the body had more bytes than there is space for.
  private(set) var overflowed = false
  /// Whether the head was too large.
  private(set) var headIsTooLarge = false
  /// The time of the last progress.
  private(set) var lastProgress = ContinuousClock.now

  private var current: ResponseHead?
  private var headBytes = 0
  private var disposition: Disposition?
  private var skipped = 0

  /// - Parameter decide: Decides what to do with the body that follows a head. Called once.
  init(filling target: UnsafeMutableRawBufferPointer, _ decide: @escaping (ResponseHead) -> Disposition) {
    unsafe self.target = target
    self.decide = decide
  }

  /// Creates an exchange for bodies that are collected or ignored.
  convenience init(_ decide: @escaping (ResponseHead) -> Disposition) {
    unsafe self.init(filling: UnsafeMutableRawBufferPointer(start: nil, count: 0), decide)
  }

  func touch() { lastProgress = .now }

  /// Receives a header line.
  ///
  /// - Returns: Whether to continue.
  func receiveHead(_ bytes: UnsafeRawBufferPointer) -> Bool {
    touch()
    headBytes += bytes.count
    guard headBytes <= ResponseHead.largest else {
      headIsTooLarge = true
      return false
    }
    let line = unsafe String(decoding: bytes, as: UTF8.self).trimmed
    if line.hasPrefix("HTTP/") {
      let words = line.split(separator: " ")
      current = ResponseHead(status: words.count > 1 ? Int(words[1]) ?? 0 : 0)
    } else if !line.isEmpty {
      // Trailers come after the body and are ignored.
      if disposition == nil { current?.add(line: String(line)) }
    } else if let current, current.status >= 200, head == nil {
      head = current
      disposition = decide(current)
    }
    return true
  }

  /// Receives a piece of the body.
  ///
  /// - Returns: Whether to continue.
  func receiveBody(_ bytes: UnsafeRawBufferPointer) -> Bool {
    touch()
    switch disposition {
    case .fill(let skipping, let wanted)?:
      let skip = min(skipping - skipped, bytes.count)
      skipped += skip
      let room = unsafe min(wanted, target.count) - filled
      let count = min(bytes.count - skip, room)
      if count > 0 {
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[filled..<filled + count])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[skip..<skip + count]))
        filled += count
      }
      if bytes.count - skip > room {
        overflowed = true
        return false
      }
      return true
    case .collect(let most)?:
      let count = min(bytes.count, most - collected.count)
      unsafe collected.append(contentsOf: bytes.prefix(count))
      if count < bytes.count { overflowed = true }
      return !overflowed
    case .ignore?, nil:
      return false
    }
  }
}

/// How a transfer ended.
enum TransferEnd: Sendable {
  /// The response is complete.
  case complete
  /// The client ended it.
  case stopped
  /// No data arrived for too long.
  case stalled
  /// The waiting task was cancelled.
  case cancelled
  /// The address is private, which is not allowed here.
  case refusedPrivate
  /// Anything else, with libcurl's message.
  case failed(CURLcode, String)
}
