internal import ByteStreams
internal import JSON
internal import TensorFormats

/// The files of a directory on the Hugging Face hub at one commit.
///
/// Source: the hub's API as `huggingface_hub` 2.4.0 uses it: `/api/models/NAME/revision/REVISION` and
/// `/api/models/NAME/tree/COMMIT/DIRECTORY`, the latter paginated by `Link`.
struct HuggingFaceListing {
  let commit: String
  let files: [RemoteFile]

  /// The maximum number of entries listed. Real repositories have a few thousand.
  private static let mostEntries = 100_000
  private static let mostPages = 1000
  private static let largestPage = 64 << 20

  /// - Parameter path: The directory's name in messages.
  init(_ repository: RemoteAddress.Repository, _ client: HTTPClient, path: String) throws(CheckpointError) {
    let revision = repository.revision ?? "main"
    let information = try client.document(
      repository.address("api/models/\(repository.name)/revision/\(WebAddress.encoded(revision))"),
      most: Self.largestPage, path: path)
    let document = try Self.parse(information.bytes, path)
    guard let commit = document["sha"]?.text, Self.isCommit(commit) else {
      throw CheckpointError(
        .malformed, "the hub does not report the commit of '\(revision.printable)'", path: path)
    }
    self.commit = commit
    do throws(CheckpointError) {
      files = try Self.tree(repository, commit, client, path)
    } catch {
      // Some mirrors have no list with sizes; the one without is already in this response.
      guard error.code == .notFound, let siblings = document["siblings"]?.items else { throw error }
      let prefix = repository.directory.map { "\($0)/" }.joined()
      let names = siblings.compactMap { $0["rfilename"]?.text }.filter { $0.hasPrefix(prefix) }
        .map { String($0.dropFirst(prefix.count)) }.filter(RemoteFile.isPlain)
      guard !names.isEmpty else { throw error }
      files = names.map { RemoteFile($0) }
    }
  }

  private static func tree(
    _ repository: RemoteAddress.Repository, _ commit: String, _ client: HTTPClient, _ path: String
  ) throws(CheckpointError) -> [RemoteFile] {
    var files: [RemoteFile] = []
    var entries = 0
    var seen: Set<WebAddress> = []
    let start = try repository.address("api/models/\(repository.name)/tree/\(commit)")
      .appending(repository.directory)
    var next: WebAddress? = start
    let prefix = repository.directory.map { "\($0)/" }.joined()
    while let address = next {
      let page = try client.document(address, most: largestPage, path: path)
      guard let items = try parse(page.bytes, path).items else {
        throw CheckpointError(.malformed, "the hub's list of files is not a list", path: path)
      }
      entries += items.count
      guard entries <= mostEntries, seen.count <= mostPages, seen.insert(address).inserted else {
        throw CheckpointError(.unsupported, "the hub's list of files does not end", path: path)
      }
      for item in items where item["type"]?.text == "file" {
        guard let whole = item["path"]?.text, whole.hasPrefix(prefix) else { continue }
        let name = String(whole.dropFirst(prefix.count))
        guard RemoteFile.isPlain(name) else { continue }
        let lfs = item["lfs"]
        let size = (lfs?["size"] ?? item["size"])?.whole
        files.append(
          RemoteFile(
            name, byteCount: size.flatMap { $0 >= 0 ? $0 : nil },
            sha256: (lfs?["oid"]?.text).flatMap(digest),
            gitIdentifier: lfs == nil ? item["oid"]?.text : nil))
      }
      next = try page.head.nextPage.map { (location) throws(CheckpointError) in
        let next = try page.address.resolving(location)
        guard next.origin == start.origin else {
          throw CheckpointError(
            .malformed, "the hub's list of files continues on another server, \(next.printable)", path: path)
        }
        return next
      }
    }
    return files
  }

  /// A SHA-256, which sometimes has a type prefix.
  private static func digest(_ text: String) -> Digest? {
    let text = text.hasPrefix("sha256:") ? String(text.dropFirst(7)) : text
    return Digest(hexadecimal: text).flatMap { $0.bytes.count == 32 ? $0 : nil }
  }

  static func isCommit(_ text: String) -> Bool {
    (text.utf8.count == 40 || text.utf8.count == 64)
      && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
  }

  static func parse(_ bytes: [UInt8], _ path: String) throws(CheckpointError) -> JSONValue {
    do throws(CheckpointError) { return try JSONValue(parsing: bytes) } catch {
      var error = error.explained(prefix: bytes, byteCount: bytes.count, as: .json)
      error.message = "the hub's list of files cannot be read: \(error.message)"
      throw error.at(path: path)
    }
  }
}
