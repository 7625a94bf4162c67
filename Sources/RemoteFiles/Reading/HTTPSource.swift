public import ByteStreams
internal import Synchronization
public import TensorFormats

/// A file on a server, read in ranges.
///
/// Each read is one request that streams into the caller's buffer, on its own connection; concurrent reads use several
/// connections, as many as ``RemoteOptions/connections``. An interrupted read resumes where it stopped. Responses are
/// checked against the request and earlier responses: a read gives the right bytes or throws.
///
/// Small reads at the start of a file, as for headers, are served from one larger cached read, and small reads
/// elsewhere from a window that is read ahead.
public final class HTTPSource: ByteSource {
  public let path: String
  public let byteCount: Int
  /// The file's SHA-256 published by the hub. Callers that read the whole file should compare it.
  public var publishedSHA256: Digest? { state.withLock { $0.publishedSHA256 } }

  /// The location of a file, and what is known about it.
  struct Reference: Sendable {
    /// The permanent address.
    var address: WebAddress
    /// Whether it is a hub, which redirects to signed addresses and reports the file's commit and size.
    var isHub = false
    /// The commit that the hub must report.
    var commit: String?
    var byteCount: Int?
    var sha256: Digest?
  }

  struct State {
    /// The address for range requests; `nil` if it has to be resolved.
    var target: WebAddress?
    /// How often it was resolved.
    var generation = 0
    /// The server that sent the tag and the date, which are only compared with those of the same server.
    var witness: WebAddress.Origin?
    var tag: String?
    var lastModified: String?
    var linkedTag: String?
    var publishedSHA256: Digest?
  }

  let client: HTTPClient
  let reference: Reference
  let state: Mutex<State>
  /// Held while the target is resolved, so that one thread does it and the others wait.
  let resolving = Mutex<Void>(())
  /// Its file number in the read-ahead cache.
  private let number: Int
  /// The first bytes, once they have been requested.
  private let start = Mutex<[UInt8]>([])

  /// Creates a source. Contacts the server only if the size is not known.
  ///
  /// - Throws: `.notFound`, `.inputOutput`, `.unsupported` for a server that reports no size.
  init(_ reference: Reference, client: HTTPClient, path: String) throws(CheckpointError) {
    self.client = client
    number = client.readAhead.register()
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
        .truncated, "\(count) bytes were requested, \(max(0, byteCount - offset)) are left", path: path,
        offset: offset)
    }
    var failure: CheckpointError?
    unsafe buffer.withUnsafeMutableBytes { target in
      do throws(CheckpointError) {
        let done = unsafe try readStart(into: target, at: offset)
        let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: target[done...])
        if rest.count < ReadAhead.largeByteCount {
          unsafe try client.readAhead.read(number, of: byteCount, into: rest, at: offset + done) {
            (target, offset) throws(CheckpointError) in unsafe try fetch(into: target, at: offset)
          }
        } else {
          unsafe try fetch(into: rest, at: offset + done)
        }
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  /// Serves bytes from the cached start of the file, fetching it first if the read is small and begins there.
  ///
  /// - Returns: The number of bytes served.
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

  /// Detects foreign content in place of weights, for a better error than a parser could give.
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
        "the server has only Git LFS pointers: use the hub's own address of the model"
    case .webPage, .xml, .serverMessage:
      remedy = "the server answers with a message in HTML: open the address in a browser"
    default: return nil
    }
    return CheckpointError(
      .malformed, content.description(insteadOf: expected), path: path, remedy: remedy)
  }

  /// Forgets the cached start once the bytes after it are not needed either.
  public func discardCached(_ range: Range<Int>) {
    start.withLock { if range.upperBound >= $0.count { $0 = [] } }
  }

  /// Fetches the first ``RemoteOptions/headByteCount`` bytes, so that a header can be read without waiting.
  ///
  /// - Throws: The errors of reading.
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

  /// Requests a range once.
  ///
  /// - Parameter filled: Set to the number of bytes received, even if this throws.
  private func request(
    _ address: WebAddress, into target: UnsafeMutableRawBufferPointer, at offset: Int, _ filled: inout Int
  ) throws(RequestFailure) {
    let asked = offset...(offset + target.count - 1)
    var verdict: RangeVerdict?
    let known = state.withLock { $0 }
    let (exchange, from) = unsafe try attempt(address, asked, target, known, &verdict, &filled)
    switch verdict {
    case .takes(let count, _)?:
      // A response shorter than announced was cut off; libcurl notices most such cases itself.
      guard filled == count else {
        throw .passing(
          CheckpointError(
            .inputOutput, "\(from.origin.host) sent \(filled) of \(count) bytes", path: path,
            offset: offset + filled))
      }
      // A followed redirection is used directly next time.
      if from != address { state.withLock { $0.target = from } }
      // Some servers limit the bytes per response. One that sends almost none would never finish.
      guard count == asked.count || count >= RemoteOptions.progressByteCount else {
        throw .passing(
          CheckpointError(
            .inputOutput, "\(from.origin.host) sent \(count) bytes, \(asked.count) were requested",
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
              .inputOutput, "\(current.origin.host) sends more bytes than it announces", path: path,
              offset: asked.lowerBound))
        }
        return (exchange, current)
      }
      current = next
    }
    throw .final(
      CheckpointError(.inputOutput, "more than \(client.options.redirections) redirections", path: path))
  }
}
