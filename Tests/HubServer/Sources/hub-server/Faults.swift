/// What goes wrong with one response. Written as `name` or `name:number`.
struct Fault: Sendable {
  enum Kind: String, Sendable {
    /// Nothing goes wrong.
    case ok
    /// The connection closes after this many bytes of the body, although more were announced.
    case drop
    /// The same without an announced length: the end of the connection is the end of the body.
    case trim
    /// The server stalls after this many bytes, for longer than any client waits.
    case stall
    /// The connection closes before anything is sent.
    case close
    /// An error status; with `Retry-After: 0` if it is a temporary one.
    case status
    /// 429 with the quota headers of Hugging Face's hub; the quota is reset in this many seconds.
    case quota
    /// 503 with `Retry-After` of this many seconds, or the same as a date.
    case later, laterDate
    /// Bytes from another offset, with a `Content-Range` that says so.
    case wrongRange
    /// The right bytes with a wrong `Content-Range`.
    case wrongLabel
    /// Fewer bytes than requested, with a `Content-Range` that says so.
    case shorter
    /// 206 without `Content-Range`.
    case noLabel
    /// 200 with the whole file.
    case whole
    /// No length: chunked.
    case chunked
    /// More bytes than `Content-Range` says, chunked.
    case longer
    /// Another version of the file: other bytes, another entity tag.
    case changed
    /// Another version that is this many bytes longer, without entity tag and date.
    case grown
    /// A Git LFS pointer in place of the file.
    case pointer
    /// An HTML page with status 200.
    case page
    /// The signature counts as expired.
    case expired
    /// A redirection: an endless one, or to another scheme.
    case loop, toFile, toFTP
    /// A body declared as compressed.
    case gzip
    /// Headers of 200 kB.
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
