import Foundation
import NIOCore
import NIOHTTP1
import NIOPosix

/// Answers the requests of one connection, one after the other.
struct Responder: Sendable {
  /// Where a response goes. A response to HEAD has no body, whatever is written.
  struct Output: Sendable {
    let writer: NIOAsyncChannelOutboundWriter<HTTPServerResponsePart>
    let isHead: Bool

    func write(_ part: HTTPServerResponsePart) async throws {
      if isHead, case .body = part { return }
      try await writer.write(part)
    }
  }

  let store: Store
  let sessions: Sessions
  /// Whether this is the body host, to which a hub redirects.
  let isBodyHost: Bool
  /// The ports of the hub and of the body host.
  let ports: Ports

  /// A parsed request.
  struct Request {
    var method: HTTPMethod
    var headers: HTTPHeaders
    /// The decoded path without the session's components.
    var path: [String]
    var query: [String: String]
    var prefix: String
    var endsWithSlash: Bool
  }

  /// Whether the connection is to be closed.
  struct Close: Error {}

  func answer(_ head: HTTPRequestHead, _ output: Output) async throws {
    let (request, session) = parse(head)
    let name = isBodyHost ? "cdn" : "hub"
    if request.path == ["_log"] {
      let log = session.state.withLock { $0.log }
      return try await send(
        200, [("content-type", "text/plain")], Array(log.joined(separator: "\n").utf8), output)
    }
    session.record(
      [
        name, head.method.rawValue, "/" + request.path.joined(separator: "/"),
        head.headers.first(name: "range") ?? "-",
        head.headers.first(name: "authorization") ?? "-",
      ].joined(separator: " "))
    let latency = session.state.withLock { $0.latency }
    if latency > 0 { try await Task.sleep(for: .milliseconds(latency)) }
    if request.query["again"] != nil { return try await send(302, [("location", "?again=1")], [], output) }
    if isBodyHost { return try await body(request, session, output) }
    if request.path.first == "static" {
      return try await file(Array(request.path.dropFirst()), request, session, session.nextFault(), output)
    }
    try await hub(request, session, output)
  }

  private func parse(_ head: HTTPRequestHead) -> (Request, Session) {
    let parts = head.uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    var path = parts[0].split(separator: "/").map { decoded($0) }
    var query: [String: String] = [:]
    if parts.count > 1 {
      for item in parts[1].split(separator: "&") {
        let sides = item.split(separator: "=", maxSplits: 1)
        query[decoded(sides[0])] = sides.count > 1 ? decoded(sides[1]) : ""
      }
    }
    var name = ""
    if path.count >= 2, path[0] == "s" {
      name = path[1]
      path.removeFirst(2)
    }
    let request = Request(
      method: head.method, headers: head.headers, path: path, query: query,
      prefix: name.isEmpty ? "" : "/s/\(name)",
      endsWithSlash: parts[0].hasSuffix("/"))
    return (request, sessions[name])
  }

  // MARK: The hub

  private func hub(_ request: Request, _ session: Session, _ output: Output) async throws {
    let fault = session.nextHubFault()
    if try await fails(fault, request, output) { return }
    let token = session.state.withLock { $0.token }
    if let token, request.headers.first(name: "authorization") != "Bearer \(token)" {
      return try await send(
        401, [("x-error-message", "Access to model is restricted."), ("content-type", "application/json")],
        Array(#"{"error":"restricted"}"#.utf8), output)
    }
    let path = request.path
    if path.count >= 6, path[0] == "api", path[1] == "models" {
      let repository = "\(path[2])/\(path[3])"
      if repository == "old/name" {
        let rest = path.dropFirst(4).joined(separator: "/")
        return try await send(
          307, [("location", "\(request.prefix)/api/models/owner/model/\(rest)")], [], output)
      }
      guard store.has(repository) else { return try await missing(output) }
      if path[4] == "revision" {
        guard ["main", store.commit, "refs/pr/1"].contains(path[5...].joined(separator: "/")) else {
          return try await missing(output)
        }
        return try await send(200, [("content-type", "application/json")], store.revision(repository), output)
      }
      if path[4] == "tree", path[5] == store.commit {
        let (hasTree, page) = session.state.withLock { ($0.hasTree, $0.page) }
        guard hasTree else { return try await missing(output) }
        let start = Int(request.query["cursor"] ?? "") ?? 0
        let directory = Array(path[6...])
        guard let all = store.tree(repository, directory) else { return try await missing(output) }
        let some = all.dropFirst(start).prefix(page)
        var headers = [("content-type", "application/json")]
        if start + page < all.count {
          let place = (["\(request.prefix)/api/models/\(repository)/tree/\(store.commit)"] + directory)
            .joined(separator: "/")
          headers.append(
            (
              "link",
              "<http://127.0.0.1:\(ports.hub)\(place)?cursor=0>; rel=\"first\", <http://127.0.0.1:\(ports.hub)\(place)?comma=,&cursor=\(start + page)>; rel=\"next\""
            ))
        }
        return try await send(200, headers, Array("[\(some.joined(separator: ","))]".utf8), output)
      }
    }
    if path.starts(with: ["api", "v1", "models"]), path.count >= 6, path[5] == "repo" {
      return try await modelScope(Array(path[3...4]), Array(path[6...]), request, session, output)
    }
    // OWNER/NAME/resolve/REVISION/FILE
    if path.count >= 5, path[2] == "resolve" {
      let repository = "\(path[0])/\(path[1])"
      if repository == "old/name" {
        let rest = path.dropFirst(2).joined(separator: "/")
        return try await send(307, [("location", "\(request.prefix)/owner/model/\(rest)")], [], output)
      }
      let components = [path[0], path[1]] + path[4...]
      guard path[3] == store.commit || path[3] == "main", let file = store.file(components) else {
        return try await missing(output)
      }
      guard file.isLarge else {
        return try await self.file(components, request, session, .none, output)
      }
      let signature = session.sign()
      let location =
        "http://127.0.0.1:\(ports.bodies)\(request.prefix)/\(components.joined(separator: "/"))?X-Amz-Signature=\(signature)"
      return try await send(
        302,
        [
          ("location", location), ("x-repo-commit", store.commit),
          ("x-linked-size", "\(file.bytes.readableBytes)"),
          ("x-linked-etag", "\"\(file.sha256)\""), ("etag", "\"of-the-redirection\""),
        ], [], output)
    }
    try await missing(output)
  }

  /// ModelScope: a list of one directory, and files, with a redirection for large ones.
  private func modelScope(
    _ repository: [String], _ verb: [String], _ request: Request, _ session: Session, _ output: Output
  ) async throws {
    guard request.query["Revision"] == "master" else { return try await missing(output) }
    if verb == ["files"] {
      let root = request.query["Root"].map { [$0] } ?? []
      guard let entries = store.modelScopeList(repository + root) else {
        return try await send(
          404, [("content-type", "application/json")],
          Array(#"{"Code":10010205001,"Message":"no such model","Success":false}"#.utf8), output)
      }
      let body = #"{"Code":200,"Data":{"Files":[\#(entries.joined(separator: ","))]},"Success":true}"#
      return try await send(200, [("content-type", "application/json")], Array(body.utf8), output)
    }
    let components = repository + (request.query["FilePath"] ?? "").split(separator: "/").map(String.init)
    guard let file = store.file(components) else { return try await missing(output) }
    guard file.isLarge else { return try await self.file(components, request, session, .none, output) }
    let location =
      "http://127.0.0.1:\(ports.bodies)\(request.prefix)/\(components.joined(separator: "/"))"
      + "?X-Amz-Signature=\(session.sign())"
    try await send(302, [("location", location)], [], output)
  }

  // MARK: The body host

  private func body(_ request: Request, _ session: Session, _ output: Output) async throws {
    let fault = session.nextFault()
    // A signature is valid for GET only.
    guard request.method == .GET, fault.kind != .expired,
      session.accepts(Int(request.query["X-Amz-Signature"] ?? "") ?? 0)
    else {
      return try await send(
        403, [("content-type", "application/xml")],
        Array(
          "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
            .utf8),
        output)
    }
    try await file(request.path, request, session, fault, output)
  }

  // MARK: Files

  /// Handles faults that do not send the file's body. Returns whether it did.
  private func fails(_ fault: Fault, _ request: Request, _ output: Output) async throws -> Bool {
    switch fault.kind {
    case .close: throw Close()
    case .status:
      let mayPass = [408, 429, 500, 502, 503, 504].contains(fault.number)
      try await send(
        fault.number, (mayPass ? [("retry-after", "0")] : []) + [("content-type", "text/plain")],
        Array("a fault was asked for".utf8), output)
    case .later: try await send(503, [("retry-after", "\(fault.number)")], [], output)
    case .laterDate:
      let formatter = DateFormatter()
      formatter.locale = Locale(identifier: "en_US_POSIX")
      formatter.timeZone = TimeZone(identifier: "GMT")
      formatter.dateFormat = "EEE, dd MMM yyyy HH:mm:ss 'GMT'"
      let date = formatter.string(from: Date(timeIntervalSinceNow: TimeInterval(fault.number)))
      try await send(503, [("retry-after", date)], [], output)
    case .quota:
      try await send(
        429,
        [
          ("ratelimit", "\"api\";r=0;t=\(fault.number)"),
          ("ratelimit-policy", "\"fixed window\";\"api\";q=500;w=300"),
        ],
        [], output)
    case .page:
      try await send(
        200, [("content-type", "text/html; charset=utf-8")],
        Array("<!DOCTYPE html><html><body>Please log in</body></html>".utf8), output)
    case .loop: try await send(302, [("location", "?again=1")], [], output)
    case .toFile: try await send(302, [("location", "file:///etc/passwd")], [], output)
    case .toFTP: try await send(302, [("location", "ftp://127.0.0.1/x")], [], output)
    case .longHead:
      try await send(200, (0..<200).map { ("x-\($0)", String(repeating: "a", count: 1000)) }, [], output)
    case .stall where fault.number < 0:
      try await Task.sleep(for: .seconds(20))
      throw Close()
    default: return false
    }
    return true
  }

  private func file(
    _ components: [String], _ request: Request, _ session: Session, _ fault: Fault, _ output: Output
  ) async throws {
    if try await fails(fault, request, output) { return }
    guard let file = store.file(components) else { return try await missing(output) }
    var bytes = file.bytes
    var tag: String? = "\"\(file.sha256.prefix(16))\""
    switch fault.kind {
    case .pointer:
      bytes = ByteBuffer(
        string:
          "version https://git-lfs.github.com/spec/v1\noid sha256:\(file.sha256)\nsize \(bytes.readableBytes)\n"
      )
    case .changed:
      bytes = ByteBuffer(bytes: bytes.readableBytesView.map { $0 &+ 1 })
      tag = "\"another\""
    case .grown:
      bytes.writeRepeatingByte(7, count: max(1, fault.number))
      tag = nil
    default: break
    }
    let size = bytes.readableBytes
    let hasHead = session.state.withLock { $0.hasHead }
    var headers: [(String, String)] = [
      ("accept-ranges", "bytes"), ("content-type", "application/octet-stream"),
    ]
    if let tag { headers.append(("etag", tag)) }
    if components.count > 2, !isBodyHost { headers.append(("x-repo-commit", store.commit)) }
    if fault.kind == .gzip { headers.append(("content-encoding", "gzip")) }
    if request.method == .HEAD {
      guard hasHead else { return try await send(405, [], [], output) }
      headers.append(("content-length", "\(size)"))
      return try await sendHead(200, headers, output)
    }
    var range = 0..<size
    var status = 200
    let asked = request.headers.first(name: "range").flatMap { Self.range($0, size) }
    if let asked, fault.kind != .whole {
      guard asked.lowerBound < size else {
        return try await send(416, [("content-range", "bytes */\(size)")], [], output)
      }
      range = asked.clamped(to: 0..<size)
      status = 206
      var label = range
      switch fault.kind {
      case .wrongRange:
        let shift = range.lowerBound > 0 ? -1 : range.upperBound < size ? 1 : 0
        range = range.lowerBound + shift..<range.upperBound + shift
        label = range
      case .wrongLabel:
        let shift = range.lowerBound > 0 ? -1 : 1
        label = range.lowerBound + shift..<range.upperBound + shift
      case .shorter:
        range = range.lowerBound..<max(range.lowerBound + 1, range.upperBound - max(1, fault.number))
        label = range
      default: break
      }
      if fault.kind != .noLabel {
        headers.append(("content-range", "bytes \(label.lowerBound)-\(label.upperBound - 1)/\(size)"))
      }
    }
    switch fault.kind {
    case .chunked, .longer: headers.append(("transfer-encoding", "chunked"))
    case .trim: headers.append(("connection", "close"))
    default: headers.append(("content-length", "\(range.count)"))
    }
    try await sendHead(status, headers, output, end: false)
    var left = bytes
    left.moveReaderIndex(to: range.lowerBound)
    guard var part = left.readSlice(length: range.count) else { throw Close() }
    let limit: Int? =
      switch fault.kind {
      case .drop, .trim, .stall: min(max(0, fault.number), range.count)
      default: nil
      }
    let rate = session.state.withLock { $0.rate }
    var sent = 0
    let began = ContinuousClock.now
    while part.readableBytes > 0 {
      var count = min(part.readableBytes, 64 << 10)
      if let limit { count = min(count, limit - sent) }
      guard count > 0, let piece = part.readSlice(length: count) else { break }
      try await output.write(.body(.byteBuffer(piece)))
      sent += count
      if rate > 0 {
        let due = began + .microseconds(sent * 1_000_000 / rate)
        let now = ContinuousClock.now
        if due > now { try await Task.sleep(for: due - now) }
      }
    }
    if fault.kind == .longer {
      try await output.write(.body(.byteBuffer(ByteBuffer(repeating: 0, count: 10))))
    }
    switch fault.kind {
    case .drop, .trim: throw Close()
    case .stall:
      try await Task.sleep(for: .seconds(20))
      throw Close()
    default: try await output.write(.end(nil))
    }
  }

  private static func range(_ text: String, _ size: Int) -> Range<Int>? {
    guard text.hasPrefix("bytes=") else { return nil }
    let ends = text.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
    guard ends.count == 2, let first = Int(ends[0]) else { return nil }
    let last = Int(ends[1]) ?? size - 1
    return first <= last ? first..<last + 1 : nil
  }

  // MARK: Writing

  private func missing(_ output: Output) async throws {
    try await send(
      404, [("content-type", "application/json")], Array(#"{"error":"Repository or file not found"}"#.utf8),
      output)
  }

  private func send(_ status: Int, _ headers: [(String, String)], _ body: [UInt8], _ output: Output)
    async throws
  {
    try await sendHead(status, headers + [("content-length", "\(body.count)")], output, end: false)
    if !body.isEmpty { try await output.write(.body(.byteBuffer(ByteBuffer(bytes: body)))) }
    try await output.write(.end(nil))
  }

  private func sendHead(
    _ status: Int, _ headers: [(String, String)], _ output: Output, end: Bool = true
  ) async throws {
    try await output.write(
      .head(
        HTTPResponseHead(version: .http1_1, status: .init(statusCode: status), headers: HTTPHeaders(headers)))
    )
    if end { try await output.write(.end(nil)) }
  }
}

/// A decoded component of a path or query.
private func decoded(_ text: some StringProtocol) -> String {
  var bytes: [UInt8] = []
  var rest = text.utf8[...]
  while let byte = rest.popFirst() {
    if byte == UInt8(ascii: "%"), let high = rest.popFirst(), let low = rest.popFirst(),
      let value = UInt8(String(decoding: [high, low], as: UTF8.self), radix: 16)
    {
      bytes.append(value)
    } else {
      bytes.append(byte)
    }
  }
  return String(decoding: bytes, as: UTF8.self)
}
