public import ByteStreams
internal import Synchronization
public import TensorFormats

/// A file on a server, read in ranges.
///
/// Each read is one request that streams into the caller's buffer, on a connection of its own; several reads at once use
/// several connections, as many as ``RemoteOptions/connections``. A read that is cut off goes on at the byte where it was
/// cut. What a server says is compared with what was asked for and with what it said before: a read gives the right bytes
/// or throws.
///
/// Small reads at the start of a file, which is how headers are read, are served from one larger one that is kept.
public final class HTTPSource: ByteSource {
  public let path: String
  public let byteCount: Int
  /// What the hub says the file's SHA-256 is. Comparing it is up to whoever reads the whole file.
  public var publishedSHA256: Digest? { state.withLock { $0.publishedSHA256 } }

  /// Where a file is, and what is known about it.
  struct Reference: Sendable {
    /// The address that does not change.
    var address: WebAddress
    /// Whether a hub answers there, which redirects to signed addresses and says of which commit and size the file is.
    var isHub = false
    /// Which commit the hub has to name.
    var commit: String?
    var byteCount: Int?
    var sha256: Digest?
  }

  private struct State {
    /// The address that ranges are asked of; `nil` if it has to be found out.
    var target: WebAddress?
    /// How often it was found out.
    var generation = 0
    /// Who named the tag and the date, which are compared with those of the same server only.
    var witness: WebAddress.Origin?
    var tag: String?
    var lastModified: String?
    var linkedTag: String?
    var publishedSHA256: Digest?
  }

  private let client: HTTPClient
  private let reference: Reference
  private let state: Mutex<State>
  /// Held while the target is found out, so that one thread does it and the others wait.
  private let resolving = Mutex<Void>(())
  /// The first bytes, once they have been asked for.
  private let start = Mutex<[UInt8]>([])

  /// Makes a source. Asks the server only if the size is not known.
  ///
  /// - Throws: `.notFound`, `.inputOutput`, `.unsupported` for a server that says no size.
  init(_ reference: Reference, client: HTTPClient, path: String) throws(CheckpointError) {
    self.client = client
    self.reference = reference
    self.path = path
    var known = State()
    known.publishedSHA256 = reference.sha256
    if !reference.isHub { known.target = reference.address }
    if let byteCount = reference.byteCount {
      self.byteCount = byteCount
    } else {
      byteCount = try Self.identify(reference, client, path, &known)
    }
    state = Mutex(known)
  }

  // MARK: Reading

  public func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    let count = buffer.byteCount
    guard offset >= 0, count <= byteCount - offset else {
      throw CheckpointError(
        .truncated, "\(count) bytes are wanted, \(max(0, byteCount - offset)) are left", path: path,
        offset: offset)
    }
    var failure: CheckpointError?
    unsafe buffer.withUnsafeMutableBytes { target in
      do throws(CheckpointError) {
        let done = unsafe try readStart(into: target, at: offset)
        unsafe try fetch(into: UnsafeMutableRawBufferPointer(rebasing: target[done...]), at: offset + done)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  /// Serves what the kept start of the file has, fetching it first if the read is small and begins there.
  ///
  /// - Returns: How many bytes that was.
  private func readStart(
    into target: UnsafeMutableRawBufferPointer, at offset: Int
  ) throws(CheckpointError) -> Int {
    let most = min(client.options.headByteCount, byteCount)
    guard offset < most else { return 0 }
    return try start.withLock { (bytes) throws(CheckpointError) -> Int in
      if bytes.isEmpty {
        guard target.count <= most else { return 0 }
        var fetched = [UInt8](repeating: 0, count: most)
        var failure: CheckpointError?
        unsafe fetched.withUnsafeMutableBytes { all in
          do throws(CheckpointError) { unsafe try fetch(into: all, at: 0) } catch { failure = error }
        }
        if let failure { throw failure }
        if let fault = foreignContent(fetched) { throw fault }
        bytes = fetched
      }
      let count = min(target.count, bytes.count - offset)
      unsafe bytes.withUnsafeBytes { all in
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[..<count])
          .copyMemory(from: UnsafeRawBufferPointer(rebasing: all[offset..<offset + count]))
      }
      return count
    }
  }

  /// What stands in the place of weights, where a reader would have nothing useful to say about it.
  private func foreignContent(_ start: [UInt8]) -> CheckpointError? {
    let kinds: [(String, ForeignContent.Expected)] = [(".safetensors", .safetensors), (".gguf", .gguf)]
    guard let expected = kinds.first(where: { path.hasSuffix($0.0) })?.1,
      let content = ForeignContent(
        prefix: Array(start.prefix(ForeignContent.prefixByteCount)), byteCount: byteCount, expected: expected)
    else { return nil }
    let remedy: String
    switch content {
    case .gitLFSPointer, .gitAnnexPointer:
      remedy =
        "the server keeps pointers here and the files elsewhere: name the hub's own address of the model"
    case .webPage, .xml, .serverMessage:
      remedy = "the server answers with a message for people: look at the address in a browser"
    default: return nil
    }
    return CheckpointError(
      .malformed, content.description(insteadOf: expected), path: path, remedy: remedy)
  }

  /// Forgets the kept start once what follows it is not needed again either.
  public func discardCached(_ range: Range<Int>) {
    start.withLock { if range.upperBound >= $0.count { $0 = [] } }
  }

  /// Fetches the start of the file that ``RemoteOptions/headByteCount`` says, so that a header can be read without
  /// waiting.
  ///
  /// - Throws: As reading does.
  public func fetchStart() throws(CheckpointError) {
    guard byteCount > 0 else { return }
    _ = try readBytes(0..<1)
  }

  // MARK: Fetching

  private func fetch(into target: UnsafeMutableRawBufferPointer, at offset: Int) throws(CheckpointError) {
    var done = 0
    var patience = HTTPClient.Patience(client, path: path)
    while done < target.count {
      var generation = 0
      var filled = 0
      do throws(RequestFailure) {
        let address: WebAddress
        (address, generation) = try resolve()
        let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: target[done...])
        unsafe try request(address, into: rest, at: offset + done, &filled)
        done += filled
        patience.reset()
      } catch {
        done += filled
        if filled >= RemoteOptions.progressByteCount { patience.reset() }
        if case .expired = error { expire(generation) }
        do throws(CheckpointError) { try patience.wait(after: error) } catch {
          var placed = error
          placed.offset = placed.offset ?? offset + done
          throw placed
        }
      }
    }
  }

  /// Asks for a range once.
  ///
  /// - Parameter filled: Receives how many bytes came, also if this throws.
  private func request(
    _ address: WebAddress, into target: UnsafeMutableRawBufferPointer, at offset: Int, _ filled: inout Int
  ) throws(RequestFailure) {
    let asked = offset...(offset + target.count - 1)
    var verdict: RangeVerdict?
    let known = state.withLock { $0 }
    let (exchange, from) = unsafe try attempt(address, asked, target, known, &verdict, &filled)
    switch verdict {
    case .takes(let count, _)?:
      // A server that says how much it sends and sends less was cut off; libcurl notices most of that itself.
      guard filled == count else {
        throw .passing(
          CheckpointError(
            .inputOutput, "\(from.origin.host) sent \(filled) of \(count) bytes", path: path,
            offset: offset + filled))
      }
      // A redirection that was followed is taken at once next time.
      if from != address { state.withLock { $0.target = from } }
      // Some send at most so many bytes at a time. One that sends next to none would never come to an end.
      guard count == asked.count || count >= RemoteOptions.progressByteCount else {
        throw .passing(
          CheckpointError(
            .inputOutput, "\(from.origin.host) sent \(count) bytes where \(asked.count) were asked for",
            path: path, offset: offset + filled))
      }
    case .refused(let error)?: throw .final(error)
    case nil:
      throw client.failure(
        exchange, from: from, isSigned: from.origin != reference.address.origin, path: path)
    }
  }

  private func attempt(
    _ address: WebAddress, _ asked: ClosedRange<Int>, _ target: UnsafeMutableRawBufferPointer, _ known: State,
    _ verdict: inout RangeVerdict?, _ filled: inout Int
  ) throws(RequestFailure) -> (Exchange, WebAddress) {
    var current: WebAddress = address
    for _ in 0...client.options.redirections {
      var judged: RangeVerdict?
      let exchange = unsafe Exchange(filling: target) { head in
        guard head.status == 200 || head.status == 206 || head.status == 416 else {
          return .collect(most: ResponseHead.largest)
        }
        let verdict = self.judge(head, asked, from: current, known)
        judged = verdict
        guard case .takes(let count, let skipping) = verdict else { return .ignore }
        return .fill(skipping: skipping, count: count)
      }
      do throws(RequestFailure) {
        try client.send(.get, current, asked, exchange, path: path)
      } catch {
        filled = exchange.filled
        if case .refused(let fault)? = judged { throw .final(fault) }
        throw error
      }
      filled = exchange.filled
      verdict = judged
      guard let next = try client.redirection(exchange, from: current, path: path) else {
        if exchange.overflowed, case .takes(_, let skipping)? = judged, exchange.head?.status == 206,
          skipping == 0
        {
          throw .final(
            CheckpointError(
              .inputOutput, "\(current.origin.host) sends more than the bytes that it announces", path: path,
              offset: asked.lowerBound))
        }
        return (exchange, current)
      }
      current = next
    }
    throw .final(
      CheckpointError(.inputOutput, "more than \(client.options.redirections) redirections", path: path))
  }

  /// Whether an answer is one to the question.
  private enum RangeVerdict {
    /// So many bytes of the body are taken, after others that are passed over.
    case takes(Int, skipping: Int)
    case refused(CheckpointError)
  }

  private func judge(
    _ head: ResponseHead, _ asked: ClosedRange<Int>, from address: WebAddress, _ known: State
  ) -> RangeVerdict {
    let host = address.origin.host
    func refuse(_ code: CheckpointError.Code, _ text: String, _ remedy: String? = nil) -> RangeVerdict {
      .refused(CheckpointError(code, text, path: path, offset: asked.lowerBound, remedy: remedy))
    }
    func changed(_ text: String) -> RangeVerdict {
      refuse(.sourceChanged, "the file is not what it was when it was opened: \(text)", "begin again")
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
    // Fewer than asked for are allowed; the rest is asked for again.
    guard range.lowerBound == asked.lowerBound, range.upperBound <= asked.upperBound else {
      return refuse(.inputOutput, "\(host) sends bytes \(range.shown) instead of \(asked.shown)")
    }
    if let length = head.contentLength, length != range.count {
      return refuse(
        .inputOutput, "\(host) announces \(length) bytes and calls them bytes \(range.shown)")
    }
    return .takes(range.count, skipping: 0)
  }

  /// The error for a page that a server gives in the place of a file; `nil` for anything else.
  private static func page(_ head: ResponseHead, from address: WebAddress, _ path: String) -> CheckpointError?
  {
    guard head.status < 300, head.contentType == "text/html", !path.hasSuffix(".html") else { return nil }
    return CheckpointError(
      .malformed, "\(address.origin.host) answers with an HTML page, and not with the file", path: path,
      remedy: "look at the address in a browser; access may need an account")
  }

  /// What differs from what the same server said of the file before.
  private func change(_ head: ResponseHead, from address: WebAddress, _ known: State) -> String? {
    guard known.witness == address.origin else {
      if known.witness == nil, !reference.isHub { remember(head, address.origin) }
      return nil
    }
    if let before = known.tag, let now = ResponseHead.tag(head["etag"]) {
      return before == now ? nil : "its entity tag was \(before.printable) and is \(now.printable)"
    }
    if let before = known.lastModified, let now = head["last-modified"], before != now {
      return "it was changed last on \(before.printable), and now on \(now.printable)"
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

// MARK: - Where the bytes are

extension HTTPSource {
  /// The address that ranges are asked of. One thread finds it out while others wait.
  private func resolve() throws(RequestFailure) -> (WebAddress, generation: Int) {
    try resolving.withLock { (_) throws(RequestFailure) -> (WebAddress, generation: Int) in
      var known = state.withLock { $0 }
      if let target = known.target { return (target, known.generation) }
      let size =
        reference.isHub
        ? try Self.askHub(reference, client, path, &known) : byteCount
      known.target = known.target ?? reference.address
      if let size, size != byteCount {
        throw .final(
          CheckpointError(
            .sourceChanged,
            "the file is not what it was when it was opened: it has \(size) bytes instead of \(byteCount)",
            path: path, remedy: "begin again"))
      }
      known.generation += 1
      state.withLock { $0 = known }
      return (known.target ?? reference.address, known.generation)
    }
  }

  /// Forgets a target that works no longer, unless another thread has found a new one already.
  private func expire(_ generation: Int) {
    state.withLock { if $0.generation == generation { $0.target = nil } }
  }

  /// Asks a hub where a file is: a HEAD whose redirection to another host is not followed, because its address is
  /// what is wanted. Redirections within the hub are followed: that is how it treats repositories that were renamed.
  ///
  /// - Returns: The size that the hub names; `nil` if it names none.
  private static func askHub(
    _ reference: Reference, _ client: HTTPClient, _ path: String, _ known: inout State
  ) throws(RequestFailure) -> Int? {
    var address = reference.address
    for _ in 0...client.options.redirections {
      let exchange = Exchange { _ in .collect(most: ResponseHead.largest) }
      try client.send(.head, address, nil, exchange, path: path)
      let next = try client.redirection(exchange, from: address, path: path)
      if let next, next.origin == address.origin, exchange.head?["x-linked-size"] == nil {
        address = next
        continue
      }
      if let status = exchange.head?.status, status == 405 || status == 501 {
        // A mirror without HEAD: the first range will tell.
        known.target = address
        return nil
      }
      guard let head = exchange.head, next != nil || head.status == 200 else {
        throw client.failure(exchange, from: address, isSigned: false, path: path)
      }
      func changed(_ text: String) -> RequestFailure {
        .final(
          CheckpointError(
            .sourceChanged, "the file is not what it was when it was opened: \(text)", path: path,
            remedy: "begin again"))
      }
      if let commit = reference.commit, let named = head["x-repo-commit"], named != commit {
        throw changed("the hub names commit \(named.printable) instead of \(commit)")
      }
      let linked = ResponseHead.tag(head["x-linked-etag"])
      if let before = known.linkedTag, let linked, before != linked {
        throw changed("its tag was \(before.printable) and is \(linked.printable)")
      }
      known.linkedTag = linked ?? known.linkedTag
      // The tag of a file in Git LFS or Xet is its SHA-256; that of another one is of Git's.
      if let linked, let digest = Digest(hexadecimal: linked), digest.bytes.count == 32 {
        if let published = known.publishedSHA256, published != digest {
          throw changed("its SHA-256 was published as \(published) and is \(digest)")
        }
        known.publishedSHA256 = digest
      }
      known.target = next ?? address
      if next == nil, known.witness == nil { note(head, address, &known) }
      // What a redirection says of its own length is of no interest.
      return head.linkedSize ?? (next == nil ? head.contentLength : nil)
    }
    throw .final(
      CheckpointError(.inputOutput, "more than \(client.options.redirections) redirections", path: path))
  }

  /// Finds out how large a file is.
  private static func identify(
    _ reference: Reference, _ client: HTTPClient, _ path: String, _ known: inout State
  ) throws(CheckpointError) -> Int {
    var patience = HTTPClient.Patience(client, path: path)
    while true {
      do throws(RequestFailure) {
        if reference.isHub {
          if let size = try askHub(reference, client, path, &known) { return size }
          return try askForOneByte(known.target ?? reference.address, reference, client, path, &known)
        }
        // A signature is for one method, and that is GET.
        if !reference.address.isSigned {
          let (exchange, from) = try client.follow(.head, reference.address, path: path) {
            Exchange { _ in .collect(most: ResponseHead.largest) }
          }
          if let head = exchange.head,
            head.status == 404 || [408, 429, 500, 502, 503, 504].contains(head.status)
          {
            throw client.failure(
              exchange, from: from, isSigned: from.origin != reference.address.origin, path: path)
          }
          if let head = exchange.head, let fault = page(head, from: from, path) { throw .final(fault) }
          // Some servers say 0 to every HEAD.
          if let head = exchange.head, head.status == 200, let length = head.contentLength, length > 0 {
            note(head, from, &known)
            return length
          }
        }
        return try askForOneByte(reference.address, reference, client, path, &known)
      } catch {
        if case .expired = error { known.target = nil }
        try patience.wait(after: error)
      }
    }
  }

  /// Asks for the first byte, because the answer to that has the size where the answer to HEAD has not.
  private static func askForOneByte(
    _ address: WebAddress, _ reference: Reference, _ client: HTTPClient, _ path: String, _ known: inout State
  ) throws(RequestFailure) -> Int {
    let (exchange, from) = try client.follow(.get, address, 0...0, path: path) {
      Exchange { head in head.status == 200 ? .ignore : .collect(most: ResponseHead.largest) }
    }
    guard let head = exchange.head, [200, 206, 416].contains(head.status) else {
      throw client.failure(
        exchange, from: from, isSigned: from.origin != reference.address.origin, path: path)
    }
    if let fault = page(head, from: from, path) { throw .final(fault) }
    let size: Int?
    switch head.status {
    case 206: size = head.contentRange?.total
    // The only file without a first byte is an empty one.
    case 416: size = head.contentRange?.total == 0 ? 0 : nil
    default: size = head.isIdentity ? head.contentLength : nil
    }
    guard let size else {
      throw .final(
        CheckpointError(
          .unsupported, "\(from.origin.host) does not say how large the file is", path: path,
          remedy: "download the file, or use a server that supports ranges"))
    }
    note(head, from, &known)
    return size
  }

  private static func note(_ head: ResponseHead, _ from: WebAddress, _ known: inout State) {
    known.target = from
    guard known.linkedTag == nil else { return }
    known.witness = from.origin
    known.tag = ResponseHead.tag(head["etag"])
    known.lastModified = head["last-modified"]
  }
}
