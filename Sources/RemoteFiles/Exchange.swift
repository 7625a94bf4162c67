internal import CCurl

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// What is asked of a server, once.
struct WebRequest: Sendable {
  enum Method: Sendable { case get, head }

  var method = Method.get
  var address: WebAddress
  /// The bytes that are wanted; `nil` for all.
  var range: ClosedRange<Int>?
  /// A secret that goes to this address.
  var token: String?
  /// Whether the address may be one that is not of the public internet.
  var allowsPrivateAddress: Bool
}

/// The response to one request as it comes in, and where its body goes.
///
/// Bytes are copied once, from libcurl's buffer to their place.
@safe final class Exchange {
  /// What becomes of a body.
  enum Disposition {
    /// Its first bytes are passed over, so many of the rest go to the target, and there are no more.
    case fill(skipping: Int, count: Int)
    /// It is kept, up to so many bytes.
    case collect(most: Int)
    /// It is not wanted.
    case ignore
  }

  /// Where bytes of the file go. Outlives the exchange: the caller's `withUnsafeMutableBytes` surrounds it.
  private let target: UnsafeMutableRawBufferPointer
  private let decide: (ResponseHead) -> Disposition

  private(set) var head: ResponseHead?
  /// How many bytes of the target are filled.
  private(set) var filled = 0
  /// What is kept of the body.
  private(set) var collected: [UInt8] = []
  /// Whether the body had more bytes than there is room for.
  private(set) var overflowed = false
  /// Whether the head was too large.
  private(set) var headIsTooLarge = false
  /// When something came last.
  private(set) var lastProgress = ContinuousClock.now

  private var current: ResponseHead?
  private var headBytes = 0
  private var disposition: Disposition?
  private var skipped = 0

  /// - Parameter decide: What becomes of the body that follows a head. Called once.
  init(filling target: UnsafeMutableRawBufferPointer, _ decide: @escaping (ResponseHead) -> Disposition) {
    unsafe self.target = target
    self.decide = decide
  }

  /// For bodies that are collected or ignored.
  convenience init(_ decide: @escaping (ResponseHead) -> Disposition) {
    unsafe self.init(filling: UnsafeMutableRawBufferPointer(start: nil, count: 0), decide)
  }

  func touch() { lastProgress = .now }

  /// Takes a line of a head.
  ///
  /// - Returns: Whether to go on.
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
      // Trailers come after the body and change nothing.
      if disposition == nil { current?.add(line: String(line)) }
    } else if let current, current.status >= 200, head == nil {
      head = current
      disposition = decide(current)
    }
    return true
  }

  /// Takes a piece of the body.
  ///
  /// - Returns: Whether to go on.
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
  /// We had enough, or refused to take more.
  case stopped
  /// Nothing came for too long.
  case stalled
  /// The task that waits was cancelled.
  case cancelled
  /// The address is private, and that is not allowed here.
  case refusedPrivate
  /// Anything else, in libcurl's words.
  case failed(CURLcode, String)
}
