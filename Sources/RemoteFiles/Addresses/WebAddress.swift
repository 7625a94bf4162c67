internal import CCurl
internal import TensorFormats

/// An address of `http` or `https`, parsed by libcurl, so that the address checked is the one connected to.
struct WebAddress: Hashable, Sendable {
  /// A scheme, a host and a port, which identify a server.
  struct Origin: Hashable, Sendable {
    let scheme: String
    let host: String
    let port: String
  }

  /// The complete address, without a fragment. May contain a signature: never printed.
  let text: String
  let origin: Origin
  /// Percent-encoded, as sent.
  let path: String
  let query: String?

  /// - Throws: `.invalidRequest` for an invalid address or one that contains a password.
  init(_ text: String) throws(CheckpointError) { try self.init(text, from: nil) }

  /// The target of a redirection from this address.
  ///
  /// - Parameter location: An absolute address, or one relative to this.
  /// - Throws: `.inputOutput` if it is not an `http` or `https` address.
  func resolving(_ location: String) throws(CheckpointError) -> WebAddress {
    do throws(CheckpointError) {
      return try WebAddress(location, from: self)
    } catch {
      throw CheckpointError(
        .inputOutput, "the server redirects to an unsupported address: \(error.message)", path: printable)
    }
  }

  private init(_ text: String, from base: WebAddress?) throws(CheckpointError) {
    func fault(_ message: String) -> CheckpointError {
      CheckpointError(.invalidRequest, message, path: Self.redacted(text))
    }
    guard let handle = unsafe curl_url() else { throw fault("out of memory") }
    defer { unsafe curl_url_cleanup(handle) }
    func part(_ part: CURLUPart, _ flags: CUnsignedInt = 0) -> String? {
      var text: UnsafeMutablePointer<CChar>?
      guard unsafe curl_url_get(handle, part, &text, flags) == CURLUE_OK, let found = unsafe text else {
        return nil
      }
      defer { unsafe curl_free(found) }
      return unsafe String(cString: found)
    }
    let flags = CUnsignedInt(CURLU_DISALLOW_USER | CURLU_URLENCODE)
    for one in [base?.text, text].compactMap(\.self) {
      guard one.utf8.count <= 16 << 10, !one.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) else {
        throw fault("this is not an address: it is too long or has control characters")
      }
      switch unsafe curl_url_set(handle, CURLUPART_URL, one, flags) {
      case CURLUE_OK: break
      case CURLUE_USER_NOT_ALLOWED:
        throw fault("passwords in addresses are not supported")
      case CURLUE_UNSUPPORTED_SCHEME: throw fault("the scheme is not http or https")
      default: throw fault("this is not a valid address")
      }
    }
    guard let scheme = part(CURLUPART_SCHEME), scheme == "http" || scheme == "https" else {
      throw fault("the scheme is not http or https")
    }
    _ = unsafe curl_url_set(handle, CURLUPART_FRAGMENT, nil, 0)
    guard let host = part(CURLUPART_HOST), !host.isEmpty,
      let port = part(CURLUPART_PORT, CUnsignedInt(CURLU_DEFAULT_PORT)),
      let whole = part(CURLUPART_URL), let path = part(CURLUPART_PATH)
    else { throw fault("this is not a valid address") }
    self.text = whole
    self.path = path
    query = part(CURLUPART_QUERY)
    origin = Origin(scheme: scheme, host: host.lowercased(), port: port)
  }

  /// The address without its query, which may be secret.
  var printable: String { Self.redacted(text) }

  /// Makes a text that starts as an address safe to print: without query, user and password.
  static func redacted(_ text: String) -> String {
    let end = text.firstIndex { $0 == "?" || $0 == "#" } ?? text.endIndex
    var shown = String(text[..<end])
    if let scheme = shown.range(of: "://") {
      let authority = shown[scheme.upperBound...].prefix { $0 != "/" }
      if let at = authority.lastIndex(of: "@") { shown.removeSubrange(scheme.upperBound...at) }
    }
    return (shown + (end == text.endIndex || text[end] == "#" ? "" : "?…")).printable
  }

  /// Whether the host is a non-public address or the local host's name.
  var hasPrivateHost: Bool {
    let host = origin.host.drop { $0 == "[" }.prefix { $0 != "]" && $0 != "%" }
    if host == "localhost" || host.hasSuffix(".localhost") || host == "localhost." { return true }
    return unsafe ccurl_text_is_private(String(host)) == 1
  }

  /// Whether the query has a signature, which makes the address valid for a limited time and one method.
  var isSigned: Bool {
    let names = (query ?? "").split(separator: "&").map { $0.prefix { $0 != "=" }.lowercased() }
    return names.contains { name in
      ["x-amz-signature", "x-goog-signature", "signature", "sig", "q-signature", "x-oss-signature"].contains(
        name)
    }
  }

  /// This address with path components appended. The query is dropped.
  ///
  /// - Parameter components: File and directory names, not encoded.
  func appending(_ components: [String]) throws(CheckpointError) -> WebAddress {
    var text = String(self.text.prefix { $0 != "?" })
    for component in components {
      if text.last != "/" { text += "/" }
      text += Self.encoded(component)
    }
    return try WebAddress(text)
  }

  /// A path component or query value, with everything but unreserved characters percent-encoded.
  static func encoded(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF")
    var result = ""
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
        UInt8(ascii: "~"):
        result.unicodeScalars.append(Unicode.Scalar(byte))
      default: result += "%\(digits[Int(byte >> 4)])\(digits[Int(byte & 15)])"
      }
    }
    return result
  }

  /// A decoded path component; `nil` for an invalid encoding or bytes that are not UTF-8.
  static func decoded(_ text: some StringProtocol) -> String? {
    var bytes: [UInt8] = []
    var rest = text.utf8[...]
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let high = rest.popFirst(), let low = rest.popFirst(),
        let value = UInt8(String(decoding: [high, low], as: UTF8.self), radix: 16), high != UInt8(ascii: "+")
      else { return nil }
      bytes.append(value)
    }
    return String(validating: bytes, as: UTF8.self)
  }
}

extension StringProtocol {
  /// The first occurrence of a text.
  func range(of text: String) -> Range<Index>? {
    var start = startIndex
    while start < endIndex {
      if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
      start = index(after: start)
    }
    return nil
  }
}
