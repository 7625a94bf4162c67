internal import CCurl
internal import Synchronization
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// Why a request failed or was incomplete, and what can be done about it.
enum RequestFailure: Error {
  /// May succeed on retry: after a growing pause, or the one that the server asks for. `attempts` limits the number of
  /// attempts if it is lower than usual.
  case passing(CheckpointError, wait: Duration? = nil, attempts: Int? = nil)
  /// A signed address has expired; a new one may work.
  case expired(CheckpointError)
  /// Retrying will not help.
  case final(CheckpointError)

  var error: CheckpointError {
    switch self {
    case .passing(let error, _, _), .expired(let error), .final(let error): error
    }
  }
}

/// Sends requests for the files of one directory: manages connections, follows redirections, confines secrets, and
/// decides whether a failure is temporary.
final class HTTPClient: Sendable {
  let options: RemoteOptions
  /// The server named by the user, the only one that gets the token.
  let origin: WebAddress.Origin
  private let token: String?
  /// Whether there is a token that must not be sent.
  private let isWithheld: Bool
  private let pool: ConnectionPool
  /// The read-ahead cache of all files.
  let readAhead: ReadAhead
  private let state: Mutex<State>

  private struct State {
    /// Whether the server named by the user is on this host or in a private network.
    var originIsPrivate: Bool
    var hasSucceeded = false
    /// When servers that asked for a pause may be contacted again.
    var pauses: [WebAddress.Origin: ContinuousClock.Instant] = [:]
  }

  /// - Parameters:
  ///   - start: An address of the server named by the user.
  ///   - token: The bearer token for it. Over unencrypted `http`, it is only sent to this host.
  init(_ start: WebAddress, token: String?, _ options: RemoteOptions) {
    self.options = options
    origin = start.origin
    self.token = start.origin.scheme == "https" || start.isThisHost ? token : nil
    isWithheld = self.token == nil && token != nil
    pool = ConnectionPool(options)
    readAhead = ReadAhead(keeping: options.readAheadByteCount)
    state = Mutex(State(originIsPrivate: start.hasPrivateHost && !options.takesEveryOriginForPublic))
  }

  /// Sends one request without following redirections.
  func send(
    _ method: WebRequest.Method, _ address: WebAddress, _ range: ClosedRange<Int>? = nil,
    _ exchange: Exchange,
    path: String
  ) throws(RequestFailure) {
    let isOrigin = address.origin == origin
    let allowsPrivate =
      isOrigin || options.allowsPrivateRedirections || state.withLock { $0.originIsPrivate }
    let refusal = CheckpointError(
      .inputOutput, "the server redirects to \(address.printable), which is an address of a private network",
      path: path, remedy: "allow redirections to private addresses if this is intended")
    guard allowsPrivate || !address.hasPrivateHost else { throw .final(refusal) }
    if let until = state.withLock({ $0.pauses[address.origin] }) { try pause(until - .now, path) }
    let request = WebRequest(
      method: method, address: address, range: range, token: isOrigin ? token : nil,
      allowsPrivateAddress: allowsPrivate)
    let (end, metPrivate) = pool.with { ($0.perform(request, exchange), $0.metPrivateAddress) }
    let isFirst = state.withLock { state in
      if isOrigin, metPrivate, !options.takesEveryOriginForPublic { state.originIsPrivate = true }
      if exchange.head != nil { state.hasSucceeded = true }
      return !state.hasSucceeded
    }
    var mayBeMistyped = false
    let fault: String
    switch end {
    case .complete: return
    case .stopped:
      guard exchange.headIsTooLarge else { return }
      throw .final(
        CheckpointError(
          .inputOutput, "\(address.printable) sent response headers that are too large", path: path))
    case .cancelled: throw .final(Self.cancelled(path))
    case .refusedPrivate: throw .final(refusal)
    case .stalled: fault = "no data arrived for \(options.stallLimit)"
    case .failed(let code, let text):
      fault = self.redacted(text)
      mayBeMistyped = isFirst && (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT)
      if Self.isHopeless(code) {
        throw .final(
          CheckpointError(.inputOutput, "\(address.printable) cannot be reached: \(fault)", path: path))
      }
    }
    // Waiting does not fix a mistyped name.
    throw .passing(
      CheckpointError(
        .inputOutput, "\(address.printable) did not send a complete response: \(fault)", path: path),
      attempts: mayBeMistyped ? 2 : nil)
  }

  private static func isHopeless(_ code: CURLcode) -> Bool {
    [
      CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_UNSUPPORTED_PROTOCOL,
      CURLE_URL_MALFORMAT,
      CURLE_FAILED_INIT, CURLE_OUT_OF_MEMORY, CURLE_SSL_ENGINE_NOTFOUND, CURLE_SSL_ISSUER_ERROR,
      CURLE_BAD_FUNCTION_ARGUMENT, CURLE_NOT_BUILT_IN,
    ].contains(code)
  }

  /// Sends a request and follows redirections, with the same checks for each.
  ///
  /// - Parameter exchange: Creates the exchange for the next response.
  /// - Returns: The exchange with the final response, and the address that sent it.
  func follow(
    _ method: WebRequest.Method, _ start: WebAddress, _ range: ClosedRange<Int>? = nil, path: String,
    _ makeExchange: () -> Exchange
  ) throws(RequestFailure) -> (exchange: Exchange, address: WebAddress) {
    var address = start
    for _ in 0...options.redirections {
      let exchange = makeExchange()
      try send(method, address, range, exchange, path: path)
      guard let next = try redirection(exchange, from: address, path: path) else {
        return (exchange, address)
      }
      address = next
    }
    throw .final(
      CheckpointError(.inputOutput, "more than \(options.redirections) redirections", path: path))
  }

  /// The target of a redirection; `nil` if the response is not one.
  func redirection(
    _ exchange: Exchange, from address: WebAddress, path: String
  ) throws(RequestFailure) -> WebAddress? {
    guard let head = exchange.head, head.isRedirection, let location = head["location"] else { return nil }
    let next: WebAddress
    do throws(CheckpointError) { next = try address.resolving(location) } catch {
      throw .final(error.at(path: path))
    }
    guard address.origin.scheme == "http" || next.origin.scheme == "https" else {
      throw .final(
        CheckpointError(
          .inputOutput, "the server redirects from https to http, to \(next.printable)", path: path))
    }
    return next
  }

  // MARK: Statuses

  /// The failure for an unexpected status.
  ///
  /// - Parameter isSigned: Whether the address was a temporary signed one.
  func failure(
    _ exchange: Exchange, from address: WebAddress, isSigned: Bool, path: String
  ) -> RequestFailure {
    guard let head = exchange.head else {
      return .passing(CheckpointError(.inputOutput, "\(address.printable) did not respond", path: path))
    }
    let words = ServerWords.text(head, exchange.collected).map { ": \(redacted($0))" } ?? ""
    func error(_ code: CheckpointError.Code, _ text: String, _ remedy: String? = nil) -> CheckpointError {
      CheckpointError(
        code, "\(address.origin.host) \(text) (status \(head.status))\(words)", path: path, remedy: remedy)
    }
    switch head.status {
    case 400, 401, 403, 404, 410:
      if isSigned { return .expired(error(.inputOutput, "no longer accepts the signed address")) }
      if address.isSigned {
        return .final(
          error(.notFound, "rejects the signed address", "it may have expired: request a new one"))
      }
      if head.status == 404 || head.status == 410 { return .final(error(.notFound, "has no such file")) }
      if head.status == 400 { return .final(error(.inputOutput, "rejects the request as malformed")) }
      let remedy =
        isWithheld
        ? "the token is not sent over http: use an https address"
        : token == nil
          ? "set HF_TOKEN or run `hf auth login` if this needs an account"
          : "check whether the token in use has access to this"
      return .final(error(.notFound, "refuses access", remedy))
    case 408, 429, 500, 502, 503, 504:
      let seconds =
        head["retry-after"].flatMap(Self.seconds)
        ?? (head.status == 429 ? head.rateLimitReset : nil)
      // Without a usable value, the usual pause applies.
      guard let seconds, seconds > 0 else {
        return .passing(error(.inputOutput, "is temporarily unavailable"))
      }
      let wait = Duration.seconds(seconds)
      guard wait <= options.longestWait else {
        return .final(
          error(
            .inputOutput, "asks for a pause of \(seconds) s, more than the \(options.longestWait) allowed",
            "try again later"))
      }
      state.withLock { state in
        let until = ContinuousClock.now + wait
        state.pauses[address.origin] = max(until, state.pauses[address.origin] ?? until)
      }
      return .passing(error(.inputOutput, "asks for a pause"), wait: wait)
    default:
      return .final(error(.inputOutput, "sent an unexpected response"))
    }
  }

  /// The seconds of `Retry-After`, which may be a date.
  private static func seconds(_ text: String) -> Int? {
    if let seconds = ResponseHead.count(text) { return seconds }
    let date = unsafe curl_getdate(text, nil)
    let now = time(nil)
    return date < 0 ? nil : max(0, Int(date) - Int(now))
  }

  // MARK: Secrets

  /// A message of a server or of libcurl, without secrets.
  func redacted(_ text: String) -> String {
    let words = text.split(whereSeparator: \.isWhitespace).map { word -> String in
      if let token, word.contains(token) { return "…" }
      if word.range(of: "://") != nil { return WebAddress.redacted(String(word)) }
      return word.utf8.count > 80 ? "…" : String(word)
    }
    return words.joined(separator: " ").printable
  }
}

extension WebAddress {
  /// Whether the host is one of the names or addresses of the local host.
  var isThisHost: Bool {
    let host = origin.host
    return host == "localhost" || host.hasSuffix(".localhost") || host == "[::1]"
      || (host.hasPrefix("127.") && hasPrivateHost)
  }
}

// MARK: - Documents

extension HTTPClient {
  /// Fetches a small file completely.
  ///
  /// - Parameters:
  ///   - most: The maximum size in bytes.
  ///   - path: Its name in messages.
  /// - Throws: `.notFound` if there is no such file, `.unsupported` if it is larger, `.inputOutput` if it cannot be
  ///   fetched.
  func document(
    _ address: WebAddress, most: Int, path: String
  ) throws(CheckpointError) -> (bytes: [UInt8], head: ResponseHead, address: WebAddress) {
    var patience = Patience(self, path: path)
    while true {
      do throws(RequestFailure) {
        let (exchange, from) = try follow(.get, address, path: path) {
          Exchange { head in .collect(most: head.status == 200 ? most : ResponseHead.largest) }
        }
        guard let head = exchange.head, head.status == 200 else {
          throw failure(exchange, from: from, isSigned: from.origin != address.origin, path: path)
        }
        guard head.isIdentity else { throw .final(Self.compressed(path)) }
        guard !exchange.overflowed else {
          throw .final(
            CheckpointError(
              .unsupported, "has more than \(most) bytes, the limit for such a file", path: path))
        }
        return (exchange.collected, head, from)
      } catch {
        try patience.wait(after: error)
      }
    }
  }

  static func compressed(_ path: String) -> CheckpointError {
    CheckpointError(
      .unsupported,
      "the server sends this compressed although it was asked not to, so that ranges cannot be read",
      path: path, remedy: "download it")
  }
}
