internal import ByteStreams
internal import Synchronization
internal import TensorFormats

/// Resolving a file's address and size.
extension HTTPSource {
  /// The address for range requests. One thread resolves it while others wait.
  func resolve() throws(RequestFailure) -> (WebAddress, generation: Int) {
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
            "the file has changed since it was opened: it has \(size) bytes instead of \(byteCount)",
            path: path, remedy: "start over"))
      }
      known.generation += 1
      state.withLock { $0 = known }
      return (known.target ?? reference.address, known.generation)
    }
  }

  /// Forgets an expired target, unless another thread has already resolved a new one.
  func expire(_ generation: Int) {
    state.withLock { if $0.generation == generation { $0.target = nil } }
  }

  /// Asks a hub for a file's location: a HEAD whose redirection to another host is not followed, because only its
  /// address is needed. Redirections within the hub are followed: renamed repositories use them.
  ///
  /// - Returns: The size reported by the hub; `nil` if it reports none.
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
        // A mirror without HEAD support: the first range request will tell.
        known.target = address
        return nil
      }
      guard let head = exchange.head, next != nil || head.status == 200 else {
        throw client.failure(exchange, from: address, isSigned: false, path: path)
      }
      func changed(_ text: String) -> RequestFailure {
        .final(
          CheckpointError(
            .sourceChanged, "the file has changed since it was opened: \(text)", path: path,
            remedy: "start over"))
      }
      if let commit = reference.commit, let named = head["x-repo-commit"], named != commit {
        throw changed("the hub names commit \(named.printable) instead of \(commit)")
      }
      let linked = ResponseHead.tag(head["x-linked-etag"])
      if let before = known.linkedTag, let linked, before != linked {
        throw changed("its tag was \(before.printable) and is \(linked.printable)")
      }
      known.linkedTag = linked ?? known.linkedTag
      // The tag of a file in Git LFS or Xet is its SHA-256; otherwise it is a Git object ID.
      if let linked, let digest = Digest(hexadecimal: linked), digest.bytes.count == 32 {
        if let published = known.publishedSHA256, published != digest {
          throw changed("its SHA-256 was published as \(published) and is \(digest)")
        }
        known.publishedSHA256 = digest
      }
      known.target = next ?? address
      if next == nil, known.witness == nil { note(head, address, &known) }
      // The content length of a redirection is irrelevant.
      return head.linkedSize ?? (next == nil ? head.contentLength : nil)
    }
    throw .final(
      CheckpointError(.inputOutput, "more than \(client.options.redirections) redirections", path: path))
  }

  /// Determines the size of a file.
  static func identify(
    _ reference: Reference, _ client: HTTPClient, _ path: String, _ known: inout State
  ) throws(CheckpointError) -> Int {
    var patience = HTTPClient.Patience(client, path: path)
    while true {
      do throws(RequestFailure) {
        if reference.isHub {
          if let size = try askHub(reference, client, path, &known) { return size }
          return try askForOneByte(known.target ?? reference.address, reference, client, path, &known)
        }
        // A signature is valid for one method, GET.
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
          if let head = exchange.head, head.status == 200, head.isIdentity,
            let length = head.contentLength, length > 0
          {
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

  /// Requests the first byte, whose response has the size where that to HEAD has not.
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
          .unsupported, "\(from.origin.host) does not report the file's size", path: path,
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
