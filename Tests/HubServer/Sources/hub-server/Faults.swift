/// What goes wrong with one response. Written as `name` or `name:number`.
struct Fault: Sendable {
  enum Kind: String, Sendable {
    /// Nothing goes wrong.
    case ok
    /// The connection closes after so many bytes of the body, although more were announced.
    case drop
    /// The same, with nothing announced: the end of the connection is the end of the body.
    case trim
    /// Nothing comes after so many bytes, for longer than anyone waits.
    case stall
    /// The connection closes before anything is said.
    case close
    /// A status; with `Retry-After: 0` if it is one that may pass.
    case status
    /// 429 with the quota headers of Hugging Face's hub, which begin anew in so many seconds.
    case quota
    /// 503 with `Retry-After` of so many seconds; the same as a date.
    case later, laterDate
    /// Bytes from another place, with a `Content-Range` that says so.
    case wrongRange
    /// The right bytes with a `Content-Range` that says they are others.
    case wrongLabel
    /// Fewer bytes than asked for, with a `Content-Range` that says so.
    case shorter
    /// 206 without `Content-Range`.
    case noLabel
    /// 200 with the whole file.
    case whole
    /// A length that is not said: chunked.
    case chunked
    /// More bytes than `Content-Range` says, chunked.
    case longer
    /// Another version of the file: other bytes, another entity tag.
    case changed
    /// Another version that is so many bytes longer, without entity tag and date.
    case grown
    /// A pointer of Git LFS in the place of the file.
    case pointer
    /// An HTML page with status 200.
    case page
    /// The signature counts as expired.
    case expired
    /// A redirection: without end, or to another scheme.
    case loop, toFile, toFTP
    /// A body that says it is compressed.
    case gzip
    /// A head of 200 kB.
    case longHead
  }

  let kind: Kind
  let number: Int

  init?(_ text: Substring) {
    let parts = text.split(separator: ":", maxSplits: 1)
    guard let name = parts.first, let kind = Kind(rawValue: String(name)) else { return nil }
    self.kind = kind
    number = parts.count > 1 ? Int(parts[1]) ?? 0 : 0
  }

  static let none = Fault("ok")!
}
