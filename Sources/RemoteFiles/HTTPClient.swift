internal import CCurl
internal import Synchronization
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// Why a request brought nothing, or not all, and what can be done about it.
enum RequestFailure: Error {
  /// It may succeed later: at once, after a pause that grows, or after what the server asks for. `attempts` bounds how
  /// often it is tried, where that is fewer times than usual.
  case passing(CheckpointError, wait: Duration? = nil, attempts: Int? = nil)
  /// A signed address works no longer; a new one may.
  case expired(CheckpointError)
  /// It will not succeed.
  case final(CheckpointError)

  var error: CheckpointError {
    switch self {
    case .passing(let error, _, _), .expired(let error), .final(let error): error
    }
  }
}

/// Sends requests for the files of one directory: lends connections, follows redirections, keeps secrets where they
/// belong, and says of a failure whether it may pass.
final class HTTPClient: Sendable {
  let options: RemoteOptions
  /// Who was named by the user, and alone gets the token.
  let origin: WebAddress.Origin
  private let token: String?
  /// Whether there is a token that is not sent.
  private let isWithheld: Bool
  private let pool: ConnectionPool
  /// What was read lately, of all files.
  let readAhead: ReadAhead
  private let state: Mutex<State>

  private struct State {
    /// Whether the server that the user named is on this host or in a private network.
    var originIsPrivate: Bool
    var hasSucceeded = false
    /// When servers that asked for a pause may be asked again.
    var pauses: [WebAddress.Origin: ContinuousClock.Instant] = [:]
  }

  /// - Parameters:
  ///   - start: An address of the server that the user named.
  ///   - token: What it gets as authorisation. Over unencrypted `http` only this host gets it.
  init(_ start: WebAddress, token: String?, _ options: RemoteOptions) {
    self.options = options
    origin = start.origin
    self.token = start.origin.scheme == "https" || start.isThisHost ? token : nil
    isWithheld = self.token == nil && token != nil
    pool = ConnectionPool(options)
    readAhead = ReadAhead(keeping: options.readAheadByteCount)
    state = Mutex(State(originIsPrivate: start.hasPrivateHost && !options.takesEveryOriginForPublic))
  }

  /// Sends one request and follows no redirection.
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
      path: path, remedy: "allow redirections to private addresses if this is meant")
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
          .inputOutput, "\(address.printable) answers with a head that is too large", path: path))
    case .cancelled: throw .final(Self.cancelled(path))
    case .refusedPrivate: throw .final(refusal)
    case .stalled: fault = "nothing came for \(options.stallLimit)"
    case .failed(let code, let text):
      fault = self.redacted(text)
      mayBeMistyped = isFirst && (code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT)
      if Self.isHopeless(code) {
        throw .final(
          CheckpointError(.inputOutput, "\(address.printable) cannot be asked: \(fault)", path: path))
      }
    }
    // A name that was mistyped will not become right by waiting.
    throw .passing(
      CheckpointError(.inputOutput, "\(address.printable) did not answer in full: \(fault)", path: path),
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

  /// Sends a request and follows redirections, each as carefully as the first.
  ///
  /// - Parameter exchange: Makes what takes the next response in.
  /// - Returns: The exchange with the response that is no redirection, and who gave it.
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

  /// Where a response redirects to; `nil` if it does not.
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

  /// Why a status is not what was wanted.
  ///
  /// - Parameter isSigned: Whether the address was one that a server handed out for a while.
  func failure(
    _ exchange: Exchange, from address: WebAddress, isSigned: Bool, path: String
  ) -> RequestFailure {
    guard let head = exchange.head else {
      return .passing(CheckpointError(.inputOutput, "\(address.printable) gave no answer", path: path))
    }
    let words = ServerWords.text(head, exchange.collected).map { ": \(redacted($0))" } ?? ""
    func error(_ code: CheckpointError.Code, _ text: String, _ remedy: String? = nil) -> CheckpointError {
      CheckpointError(
        code, "\(address.origin.host) \(text) (status \(head.status))\(words)", path: path, remedy: remedy)
    }
    switch head.status {
    case 400, 401, 403, 404, 410:
      if isSigned { return .expired(error(.inputOutput, "takes the signed address no longer")) }
      if address.isSigned {
        return .final(
          error(.notFound, "refuses the signed address", "it may have expired: ask for a new one"))
      }
      if head.status == 404 || head.status == 410 { return .final(error(.notFound, "has no such file")) }
      if head.status == 400 { return .final(error(.inputOutput, "does not understand the request")) }
      let remedy =
        isWithheld
        ? "the token is not sent over http: name the server by https"
        : token == nil
          ? "set HF_TOKEN or run `hf auth login` if this needs an account"
          : "look whether the token in use has access to this"
      return .final(error(.notFound, "refuses access", remedy))
    case 408, 429, 500, 502, 503, 504:
      let seconds =
        head["retry-after"].flatMap(Self.seconds)
        ?? (head.status == 429 ? head.rateLimitReset : nil)
      // One that asks for none is given the usual one all the same.
      guard let seconds, seconds > 0 else { return .passing(error(.inputOutput, "cannot answer now")) }
      let wait = Duration.seconds(seconds)
      guard wait <= options.longestWait else {
        return .final(
          error(
            .inputOutput, "asks for a pause of \(seconds) s, longer than the \(options.longestWait) allowed",
            "try again later"))
      }
      state.withLock { state in
        let until = ContinuousClock.now + wait
        state.pauses[address.origin] = max(until, state.pauses[address.origin] ?? until)
      }
      return .passing(error(.inputOutput, "asks for a pause"), wait: wait)
    default:
      return .final(error(.inputOutput, "answers with what was not asked for"))
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

  /// A text of a server or of libcurl, without what must not be seen.
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
  /// Whether the host is written as one of the names or addresses of this host.
  var isThisHost: Bool {
    let host = origin.host
    return host == "localhost" || host.hasSuffix(".localhost") || host == "[::1]"
      || (host.hasPrefix("127.") && hasPrivateHost)
  }
}

// MARK: - Documents

extension HTTPClient {
  /// A small file as a whole.
  ///
  /// - Parameters:
  ///   - most: The most bytes that it may have.
  ///   - path: What messages call it.
  /// - Throws: `.notFound` if there is none, `.unsupported` if it is longer, `.inputOutput` if it cannot be fetched.
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
            CheckpointError(.unsupported, "has more than the \(most) bytes that are read", path: path))
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
      "the server sends this compressed although it was asked not to, so that no range of it can be had",
      path: path, remedy: "download it")
  }
}
