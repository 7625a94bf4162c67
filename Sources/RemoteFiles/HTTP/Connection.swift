internal import CCurl
internal import Dispatch
internal import Synchronization
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// A libcurl handle with its persistent connections.
///
/// libcurl handles what is easy to get wrong: TLS with the system's roots, HTTP/1.1 and HTTP/2, framing, proxies from
/// the environment, connection timeouts, name resolution. Redirections, retries and everything that concerns secrets
/// are handled by the caller, because libcurl cannot know which host may receive them. See `Manuals/remote.md` for the
/// alternatives and why this library was chosen.
///
/// `@unchecked Sendable`: used by one thread at a time, which ``ConnectionPool`` ensures.
@safe final class Connection: @unchecked Sendable {
  private let easy: UnsafeMutableRawPointer
  private let multi: UnsafeMutableRawPointer
  private let filter: UnsafeMutablePointer<ccurl_filter>
  private let errorText: UnsafeMutablePointer<CChar>
  private let options: RemoteOptions

  private static let isReady: Bool = curl_global_init(Int(CURL_GLOBAL_DEFAULT)) == CURLE_OK

  /// The interval between checks for cancellation.
  private static let watchInterval = Duration.milliseconds(100)

  init(_ options: RemoteOptions) {
    guard Self.isReady, let easy = unsafe curl_easy_init(), let multi = unsafe curl_multi_init() else {
      preconditionFailure("cannot initialise libcurl: out of memory")
    }
    unsafe self.easy = easy
    unsafe self.multi = multi
    self.options = options
    unsafe filter = .allocate(capacity: 1)
    unsafe filter.initialize(to: ccurl_filter())
    unsafe errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
    unsafe errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
    for proxy in options.environment.proxies {
      guard let address = try? WebAddress(proxy.range(of: "://") == nil ? "http://\(proxy)" : proxy) else {
        continue
      }
      let port = proxy.range(of: ":\(address.origin.port)") == nil ? "1080" : address.origin.port
      unsafe ccurl_add_proxy(filter, address.origin.host, port)
    }
  }

  deinit {
    // TLS sends a close notification, possibly to peers that are gone.
    var guarded = ccurl_pipe_guard()
    unsafe ccurl_guard_pipe(&guarded)
    defer { unsafe ccurl_release_pipe(&guarded) }
    unsafe curl_easy_cleanup(easy)
    unsafe curl_multi_cleanup(multi)
    unsafe filter.deallocate()
    unsafe errorText.deallocate()
  }

  /// Whether the last request connected to a non-public address.
  var metPrivateAddress: Bool { unsafe filter.pointee.met_private != 0 }

  /// Sends a request and receives the response. Blocks until it is complete or has failed.
  func perform(_ request: WebRequest, _ exchange: Exchange) -> TransferEnd {
    var guarded = ccurl_pipe_guard()
    unsafe ccurl_guard_pipe(&guarded)
    defer { unsafe ccurl_release_pipe(&guarded) }
    var fields: UnsafeMutablePointer<curl_slist>?
    defer { unsafe curl_slist_free_all(fields) }
    func add(_ line: String) { unsafe fields = curl_slist_append(fields, line) }
    // Ranges refer to the file, not to a compressed form of it.
    add("Accept-Encoding: identity")
    add("User-Agent: step3-toolkit/\(toolkitVersion)")
    if let range = request.range { add("Range: bytes=\(range.lowerBound)-\(range.upperBound)") }
    if let token = request.token { add("Authorization: Bearer \(token)") }
    unsafe filter.pointee.allows_private = request.allowsPrivateAddress ? 1 : 0
    unsafe filter.pointee.met_private = 0
    unsafe filter.pointee.refused_private = 0

    unsafe curl_easy_reset(easy)
    unsafe errorText[0] = 0
    let isSet =
      unsafe [
        ccurl_set_web_only(easy),
        ccurl_set_text(easy, CURLOPT_URL, request.address.text),
        ccurl_set_number(easy, CURLOPT_NOBODY, request.method == .head ? 1 : 0),
        ccurl_set_number(easy, CURLOPT_NOSIGNAL, 1),
        ccurl_set_number(easy, CURLOPT_FOLLOWLOCATION, 0),
        ccurl_set_number(easy, CURLOPT_SSL_VERIFYPEER, 1),
        ccurl_set_number(easy, CURLOPT_SSL_VERIFYHOST, 2),
        ccurl_set_number(easy, CURLOPT_TCP_KEEPALIVE, 1),
        ccurl_set_number(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1),
        ccurl_set_number(easy, CURLOPT_CONNECTTIMEOUT_MS, max(1, options.connectLimit.milliseconds)),
        ccurl_set_list(easy, CURLOPT_HTTPHEADER, fields),
        ccurl_set_receivers(easy, receiveHead, receiveBody, Unmanaged.passUnretained(exchange).toOpaque()),
        ccurl_set_filter(easy, filter),
        ccurl_set_text(easy, CURLOPT_ERRORBUFFER, errorText),
      ].allSatisfy { $0 == CURLE_OK }
    // Some versions refuse this while they hold the buffer of a failed transfer, which already has this size.
    _ = unsafe ccurl_set_number(easy, CURLOPT_BUFFERSIZE, 256 << 10)
    if let file = options.environment.certificateFile {
      _ = unsafe ccurl_set_text(easy, CURLOPT_CAINFO, file)
    }
    guard isSet else { return .failed(CURLE_FAILED_INIT, "libcurl refuses an option") }
    guard unsafe curl_multi_add_handle(multi, easy) == CURLM_OK else {
      return .failed(CURLE_FAILED_INIT, "libcurl refuses the request")
    }
    // Also ends a transfer in progress, with its connection.
    defer { unsafe _ = curl_multi_remove_handle(multi, easy) }
    return withExtendedLifetime(exchange) { wait(for: exchange) }
  }

  private func wait(for exchange: Exchange) -> TransferEnd {
    exchange.touch()
    while true {
      var running: CInt = 0
      guard unsafe curl_multi_perform(multi, &running) == CURLM_OK else {
        return .failed(CURLE_FAILED_INIT, "libcurl gave up")
      }
      guard running > 0 else { break }
      if Task.isCancelled { return .cancelled }
      let left = options.stallLimit - (ContinuousClock.now - exchange.lastProgress)
      guard left > .zero else { return .stalled }
      unsafe _ = curl_multi_poll(multi, nil, 0, CInt(min(left, Self.watchInterval).milliseconds + 1), nil)
    }
    let result = unsafe ccurl_result(multi)
    guard result >= 0 else { return .failed(CURLE_FAILED_INIT, "libcurl has no result") }
    let code = CURLcode(rawValue: .init(result))
    if code == CURLE_OK { return .complete }
    if unsafe filter.pointee.refused_private != 0 { return .refusedPrivate }
    if code == CURLE_WRITE_ERROR { return .stopped }
    let text = unsafe String(cString: errorText)
    return .failed(code, text.isEmpty ? unsafe String(cString: curl_easy_strerror(code)) : text)
  }
}

private func receiveHead(
  _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?
) -> Int {
  guard let context = unsafe context else { return 0 }
  let exchange = unsafe Unmanaged<Exchange>.fromOpaque(context).takeUnretainedValue()
  return unsafe exchange.receiveHead(UnsafeRawBufferPointer(start: bytes, count: size * count))
    ? size * count : 0
}

private func receiveBody(
  _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?
) -> Int {
  guard let context = unsafe context else { return 0 }
  let exchange = unsafe Unmanaged<Exchange>.fromOpaque(context).takeUnretainedValue()
  return unsafe exchange.receiveBody(UnsafeRawBufferPointer(start: bytes, count: size * count))
    ? size * count : 0
}

/// A bounded pool of connections. Callers block while all are busy.
final class ConnectionPool: Sendable {
  private let idle = Mutex<[Connection]>([])
  private let slots: DispatchSemaphore
  private let options: RemoteOptions

  init(_ options: RemoteOptions) {
    self.options = options
    slots = DispatchSemaphore(value: max(1, options.connections))
  }

  /// Lends the most recently used connection, whose sockets are most likely still open.
  func with<Result>(_ body: (Connection) -> Result) -> Result {
    slots.wait()
    defer { slots.signal() }
    let connection = idle.withLock { $0.popLast() } ?? Connection(options)
    defer { idle.withLock { $0.append(connection) } }
    return body(connection)
  }
}

extension Duration {
  /// Whole milliseconds.
  var milliseconds: Int {
    Int(clamping: components.seconds &* 1000 &+ components.attoseconds / 1_000_000_000_000_000)
  }
}
