/// The status and header fields of a response.
struct ResponseHead: Sendable {
  var status: Int
  /// By lowercase name; for repeated fields, the values in order.
  private var fields: [String: [String]] = [:]

  init(status: Int) { self.status = status }

  /// The maximum size of a response's headers. Signed addresses take a few kilobytes.
  static let largest = 64 << 10

  /// Adds a line: `Name: value`.
  mutating func add(line: String) {
    guard let colon = line.firstIndex(of: ":") else { return }
    let value = line[line.index(after: colon)...].trimmed
    fields[line[..<colon].lowercased(), default: []].append(String(value))
  }

  /// The first value of a field; `nil` if it is absent or empty.
  subscript(name: String) -> String? {
    guard let value = fields[name]?.first, !value.isEmpty else { return nil }
    return value
  }

  var isRedirection: Bool { [301, 302, 303, 307, 308].contains(status) && self["location"] != nil }

  /// `Content-Length`. `nil` if it is absent, contradictory or not a number.
  var contentLength: Int? {
    let values = Set(fields["content-length"] ?? [])
    return values.count == 1 ? values.first.flatMap(Self.count) : nil
  }

  /// `X-Linked-Size`: the size of the file that a hub redirects to.
  var linkedSize: Int? { self["x-linked-size"].flatMap(Self.count) }

  /// The text of an entity tag: without the weak prefix and quotes.
  static func tag(_ text: String?) -> String? {
    guard var text = text?[...] else { return nil }
    if text.hasPrefix("W/") { text = text.dropFirst(2) }
    if text.count >= 2, text.first == "\"", text.last == "\"" { text = text.dropFirst().dropLast() }
    return text.isEmpty ? nil : String(text)
  }

  /// `Content-Range`.
  var contentRange: ContentRange? { self["content-range"].flatMap(ContentRange.init) }

  var contentType: String? { self["content-type"]?.prefix { $0 != ";" }.trimmed.lowercased() }

  /// Whether the body is the uncompressed file.
  var isIdentity: Bool { self["content-encoding"].map { $0.lowercased() == "identity" } ?? true }

  /// `Link: <address>; rel="next"`: the next page of a list. Addresses may contain commas.
  var nextPage: String? {
    for value in fields["link"] ?? [] {
      var rest = value[...]
      while let start = rest.firstIndex(of: "<"), let end = rest[start...].firstIndex(of: ">") {
        let address = rest[rest.index(after: start)..<end]
        rest = rest[rest.index(after: end)...]
        let parameters = rest.prefix { $0 != "<" }
        if parameters.contains("rel=\"next\"") || parameters.contains("rel=next") { return String(address) }
      }
    }
    return nil
  }

  /// The number of seconds until a quota resets, from `ratelimit: "api";r=0;t=55`.
  var rateLimitReset: Int? {
    self["ratelimit"]?.split(separator: ";").lazy.map(\.trimmed).first { $0.hasPrefix("t=") }
      .flatMap { Self.count($0.dropFirst(2)) }
  }

  /// A number consisting of digits only.
  static func count(_ text: some StringProtocol) -> Int? {
    !text.isEmpty && text.utf8.allSatisfy { (0x30...0x39).contains($0) } ? Int(text) : nil
  }
}

/// `bytes 0-99/1234`, `bytes 0-99/*` or `bytes */1234`.
struct ContentRange: Hashable, Sendable {
  /// The range of the body; `nil` if the requested range does not exist.
  let range: ClosedRange<Int>?
  /// The size of the whole file, if the server knows it.
  let total: Int?

  init?(_ text: String) {
    let words = text.split(separator: " ", omittingEmptySubsequences: true)
    guard words.count == 2, words[0].lowercased() == "bytes" else { return nil }
    let sides = words[1].split(separator: "/", omittingEmptySubsequences: false)
    guard sides.count == 2 else { return nil }
    if sides[1] == "*" {
      total = nil
    } else {
      guard let total = ResponseHead.count(sides[1]) else { return nil }
      self.total = total
    }
    if sides[0] == "*" {
      range = nil
      return
    }
    let ends = sides[0].split(separator: "-", omittingEmptySubsequences: false)
    guard ends.count == 2, let first = ResponseHead.count(ends[0]), let last = ResponseHead.count(ends[1]),
      first <= last, last < Int.max, total.map({ last < $0 }) ?? true
    else { return nil }
    range = first...last
  }
}

extension StringProtocol {
  /// The text without surrounding whitespace.
  var trimmed: SubSequence {
    var text = self[...]
    while text.first?.isWhitespace == true { text = text.dropFirst() }
    while text.last?.isWhitespace == true { text = text.dropLast() }
    return text
  }
}
