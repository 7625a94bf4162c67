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
/// Small reads at the start of a file, which is how headers are read, are served from one larger one that is kept, and
/// small reads elsewhere from a window that is read ahead.
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

  struct State {
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

  let client: HTTPClient
  let reference: Reference
  let state: Mutex<State>
  /// Held while the target is found out, so that one thread does it and the others wait.
  let resolving = Mutex<Void>(())
  /// The number by which its bytes are kept for a while.
  private let number: Int
  /// The first bytes, once they have been asked for.
  private let start = Mutex<[UInt8]>([])

  /// Makes a source. Asks the server only if the size is not known.
  ///
  /// - Throws: `.notFound`, `.inputOutput`, `.unsupported` for a server that says no size.
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
        .truncated, "\(count) bytes are wanted, \(max(0, byteCount - offset)) are left", path: path,
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
}
