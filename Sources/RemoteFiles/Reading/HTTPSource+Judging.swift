internal import Synchronization
internal import TensorFormats

/// Checks whether a response matches the request and earlier responses.
extension HTTPSource {
  /// The verdict on a response to a range request.
  enum RangeVerdict {
    /// Take the given number of bytes of the body, after skipping others.
    case takes(Int, skipping: Int)
    case refused(CheckpointError)
  }

  func judge(
    _ head: ResponseHead, _ asked: ClosedRange<Int>, from address: WebAddress, _ known: State
  ) -> RangeVerdict {
    let host = address.origin.host
    func refuse(_ code: CheckpointError.Code, _ text: String, _ remedy: String? = nil) -> RangeVerdict {
      .refused(CheckpointError(code, text, path: path, offset: asked.lowerBound, remedy: remedy))
    }
    func changed(_ text: String) -> RangeVerdict {
      refuse(.sourceChanged, "the file has changed since it was opened: \(text)", "start over")
    }
    if let fault = change(head, from: address, known) { return changed(fault) }
    if head.status == 416 {
      if let total = head.contentRange?.total, total != byteCount {
        return changed("it has \(total) bytes instead of \(byteCount)")
      }
      return refuse(.inputOutput, "\(host) says that bytes \(asked.shown) do not exist")
    }
    guard head.isIdentity else { return .refused(HTTPClient.compressed(path)) }
    if let fault = Self.page(head, from: address, path) { return .refused(fault) }
    if head.status == 200 {
      if let length = head.contentLength, length != byteCount {
        return changed("it has \(length) bytes instead of \(byteCount)")
      }
      guard asked.lowerBound <= client.options.largestSkip else {
        return refuse(
          .unsupported, "\(host) ignores ranges: it sends the whole file instead of bytes \(asked.shown)",
          "download the file, or use a server that supports ranges")
      }
      return .takes(asked.count, skipping: asked.lowerBound)
    }
    guard let answer = head.contentRange, let range = answer.range else {
      return refuse(
        .inputOutput, "\(host) does not say which bytes it sends: Content-Range is missing or broken")
    }
    if let total = answer.total, total != byteCount {
      return changed("it has \(total) bytes instead of \(byteCount)")
    }
    // Fewer bytes than requested are allowed; the rest is requested again.
    guard range.lowerBound == asked.lowerBound, range.upperBound <= asked.upperBound else {
      return refuse(.inputOutput, "\(host) sends bytes \(range.shown) instead of \(asked.shown)")
    }
    if let length = head.contentLength, length != range.count {
      return refuse(
        .inputOutput, "\(host) announces \(length) bytes but labels them bytes \(range.shown)")
    }
    return .takes(range.count, skipping: 0)
  }

  /// The error for an HTML page sent instead of a file; `nil` for anything else.
  static func page(_ head: ResponseHead, from address: WebAddress, _ path: String) -> CheckpointError? {
    guard head.status < 300, head.contentType == "text/html", !path.hasSuffix(".html") else { return nil }
    return CheckpointError(
      .malformed, "\(address.origin.host) sends an HTML page instead of the file", path: path,
      remedy: "open the address in a browser; access may need an account")
  }

  /// What differs from the same server's earlier responses about the file.
  private func change(_ head: ResponseHead, from address: WebAddress, _ known: State) -> String? {
    guard known.witness == address.origin else {
      if known.witness == nil, !reference.isHub { remember(head, address.origin) }
      return nil
    }
    if let before = known.tag, let now = ResponseHead.tag(head["etag"]) {
      return before == now ? nil : "its entity tag was \(before.printable) and is \(now.printable)"
    }
    if let before = known.lastModified, let now = head["last-modified"], before != now {
      return "it was last modified on \(before.printable), and now on \(now.printable)"
    }
    return nil
  }

  private func remember(_ head: ResponseHead, _ origin: WebAddress.Origin) {
    guard head.status == 200 || head.status == 206 else { return }
    state.withLock { state in
      guard state.witness == nil else { return }
      state.witness = origin
      state.tag = ResponseHead.tag(head["etag"])
      state.lastModified = head["last-modified"]
    }
  }
}

extension ClosedRange<Int> {
  fileprivate var shown: String { "\(lowerBound)-\(upperBound)" }
}
