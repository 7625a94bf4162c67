public import ByteStreams
public import TensorFormats

/// A directory of files on a hub or another server, pinned to its state when it was opened.
///
///     hf://OWNER/NAME[@REVISION][/DIRECTORY]      the Hugging Face hub, or HF_ENDPOINT
///     ms://OWNER/NAME[@REVISION][/DIRECTORY]      ModelScope
///     https://huggingface.co/OWNER/NAME/tree/...  the same, as copied from a browser
///     https://HOST/.../FILE                       one file, possibly by a signed address
///     https://HOST/.../                           a directory of a server without listings: its index lists the files
///
/// A branch is resolved to a commit once, and every file is read at that commit. If the hub's local cache has a
/// file of that commit, it is read from there.
public struct RemoteDirectory: ByteStore {
  /// Its name in messages: the address without secrets, with the commit if there is one.
  public let path: String
  /// The files whose names are known, sorted.
  public let files: [RemoteFile]
  /// The file that the address names; `nil` if it names a directory.
  public let file: String?
  /// The commit that everything is read at; `nil` if the server has none.
  public let commit: String?

  private let filesByName: [String: RemoteFile]
  private let place: Place
  private let client: HTTPClient
  private let cache: HubCache?
  private var keeper: HubKeeper?

  private enum Place: Sendable {
    case huggingFace(RemoteAddress.Repository)
    case modelScope(RemoteAddress.Repository)
    /// Files below an address.
    case below(WebAddress)
    /// One file, whose address does not lead to any other.
    case single(WebAddress)
    /// The hub's local cache.
    case offline(String)
  }

  /// Whether a text is an address rather than a path.
  public static func isRemote(_ text: String) -> Bool { RemoteAddress.isRemote(text) }

  /// Opens the directory that an address names, or the parent of the file that it names.
  ///
  /// - Throws: `.invalidRequest` for an invalid address, `.notFound` if there is nothing or access is refused,
  ///   `.inputOutput` if the server cannot be reached, `.malformed` for invalid responses.
  /// - Complexity: Two requests for a hub, and one for each further thousand files; for other servers one for each
  ///   possible companion file.
  public init(_ address: String, options: RemoteOptions = RemoteOptions()) throws(CheckpointError) {
    switch try RemoteAddress(address, options.environment) {
    case .huggingFace(let repository):
      try self.init(huggingFace: repository, options)
    case .modelScope(let repository):
      try Self.refuseOffline(options, WebAddress.redacted(address))
      let path = Self.path("ms", repository, repository.revision ?? "master")
      let client = HTTPClient(try WebAddress(repository.endpoint), token: nil, options)
      let listing = try ModelScopeListing(repository, client, path: path)
      self.init(
        path: path, files: listing.files, file: repository.file, commit: nil, .modelScope(repository), client,
        nil)
    case .file(let address):
      try Self.refuseOffline(options, address.printable)
      let name = WebAddress.decoded(address.path.split(separator: "/").last ?? "") ?? ""
      guard RemoteFile.isPlain(name) else {
        throw CheckpointError(.invalidRequest, "this does not name a file", path: address.printable)
      }
      let folder = String(address.text.prefix { $0 != "?" }.reversed().drop { $0 != "/" }.reversed())
      let base = try WebAddress(folder)
      // The address of another file cannot be derived from an address with a query.
      self.init(
        path: Self.withoutSlash(base.printable), files: [RemoteFile(name)], file: name, commit: nil,
        address.query == nil ? .below(base) : .single(address), HTTPClient(base, token: nil, options), nil)
    case .directory(let base):
      try Self.refuseOffline(options, base.printable)
      guard base.query == nil else {
        throw CheckpointError(
          .invalidRequest, "a query has no meaning for the address of a directory", path: base.printable)
      }
      let client = HTTPClient(base, token: nil, options)
      let path = Self.withoutSlash(base.printable)
      let listing = try StaticListing(base, client, path: path)
      self.init(
        path: path, files: listing.names.map { RemoteFile($0) }, file: nil, commit: nil, .below(base), client,
        nil)
    }
  }

  private init(huggingFace repository: RemoteAddress.Repository, _ options: RemoteOptions)
    throws(CheckpointError)
  {
    let revision = repository.revision ?? "main"
    let environment = options.environment
    let cache = HubCache(environment, repository: repository.name)
    let start = try WebAddress(repository.endpoint)
    if environment.isOffline {
      guard let cache, let commit = cache.commit(of: revision) else {
        throw CheckpointError(
          .notFound, "HF_HUB_OFFLINE is set, and the cache does not have this revision",
          path: Self.path("hf", repository, revision), remedy: "unset it, or download the model first")
      }
      let snapshot = cache.snapshot(commit, repository.directory)
      var files: [RemoteFile] = []
      for name in try FileSystem.names(in: snapshot) {
        let path = "\(snapshot)/\(name)"
        guard try FileSystem.kind(of: path) == .file else { continue }
        files.append(RemoteFile(name, byteCount: try FileSystem.size(of: path)))
      }
      self.init(
        path: snapshot, files: files, file: repository.file, commit: commit, .offline(snapshot),
        HTTPClient(start, token: nil, options), nil)
      return
    }
    let client = HTTPClient(start, token: environment.token, options)
    let listing = try HuggingFaceListing(repository, client, path: Self.path("hf", repository, revision))
    self.init(
      path: Self.path("hf", repository, listing.commit), files: listing.files, file: repository.file,
      commit: listing.commit, .huggingFace(repository), client, cache)
  }

  private init(
    path: String, files: [RemoteFile], file: String?, commit: String?, _ place: Place, _ client: HTTPClient,
    _ cache: HubCache?
  ) {
    self.path = path
    self.files = files.sorted { $0.name.precedesBytewise($1.name) }
    filesByName = Dictionary(files.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    self.file = file
    self.commit = commit
    self.place = place
    self.client = client
    self.cache = cache
  }

  private static func path(
    _ scheme: String, _ repository: RemoteAddress.Repository, _ revision: String
  ) -> String {
    (["\(scheme)://\(repository.name)@\(revision)"] + repository.directory).joined(separator: "/").printable
  }

  private static func withoutSlash(_ text: String) -> String {
    text.hasSuffix("/") ? String(text.dropLast()) : text
  }

  private static func refuseOffline(_ options: RemoteOptions, _ path: String) throws(CheckpointError) {
    guard options.environment.isOffline else { return }
    throw CheckpointError(
      .notFound, "HF_HUB_OFFLINE is set, and only the Hugging Face hub has a cache", path: path,
      remedy: "unset it")
  }
}

// MARK: - Reading

extension RemoteDirectory {
  /// The snapshot in the hub's cache that is used when offline.
  public var directory: String? { if case .offline(let snapshot) = place { snapshot } else { nil } }

  public func path(of name: String) -> String { name.isEmpty ? path : "\(path)/\(name)" }

  /// The names of the files, sorted. A server without listings may have more than these; folders on a hub are not
  /// listed.
  public func names(in folder: String) throws(CheckpointError) -> [String] {
    guard folder.isEmpty else {
      throw CheckpointError(.notFound, "there is no such folder", path: path(of: folder))
    }
    return files.map(\.name)
  }

  public func isTaken(_ name: String) -> Bool { filesByName[name] != nil }
  public func kind(of name: String) -> FileSystem.Kind? {
    name.isEmpty ? .directory : filesByName[name].map { _ in .file }
  }
  public func size(of name: String) -> Int? {
    guard let file = filesByName[name] else { return nil }
    return file.byteCount ?? (try? open(name))?.byteCount
  }
  public func sha256(of name: String) -> Digest? { filesByName[name]?.sha256 }

  /// Opens a file.
  ///
  /// - Throws: `.notFound` if there is no such file, and the errors of requesting its size if it is not listed.
  /// - Complexity: No requests if the size is listed, otherwise one or two.
  public func open(_ name: String) throws(CheckpointError) -> any ByteSource {
    guard let keeper, let commit, let file = filesByName[name] else {
      return try fetch(name)
    }
    if let local = keeper.cache.file(file, commit, folders) { return local }
    return try keeper.source(file) { () throws(CheckpointError) in try fetch(name) }
  }

  private func fetch(_ name: String) throws(CheckpointError) -> any ByteSource {
    let path = path(of: name)
    guard RemoteFile.isPlain(name) else {
      throw CheckpointError(.invalidRequest, "'\(name.printable)' is not the name of a file", path: self.path)
    }
    let file = filesByName[name]
    var reference: HTTPSource.Reference
    switch place {
    case .offline(let snapshot): return try InputFile("\(snapshot)/\(name)")
    case .huggingFace(let repository):
      let file = try listed(file, name)
      let commit = self.commit ?? ""
      if let local = cache?.file(file, commit, repository.directory) { return local }
      reference = HTTPSource.Reference(
        address: try repository.address("\(repository.name)/resolve/\(commit)")
          .appending(repository.directory + [name]), isHub: true, commit: commit)
    case .modelScope(let repository):
      _ = try listed(file, name)
      reference = HTTPSource.Reference(address: try ModelScopeListing.address(of: name, in: repository))
    case .below(let base):
      reference = HTTPSource.Reference(address: try base.appending([name]))
    case .single(let address):
      guard name == self.file else {
        throw CheckpointError(
          .notFound, "the address has a query, so other files cannot be derived from it", path: path,
          remedy: "name a directory, or a file by an address without a query")
      }
      reference = HTTPSource.Reference(address: address)
    }
    reference.byteCount = file?.byteCount
    reference.sha256 = file?.sha256
    return try HTTPSource(reference, client: client, path: path)
  }

  private func listed(_ file: RemoteFile?, _ name: String) throws(CheckpointError) -> RemoteFile {
    guard let file else {
      throw CheckpointError(.notFound, "there is no such file", path: path(of: name))
    }
    return file
  }

  /// Opens several files in parallel and fetches the start of each, so that their headers can be read without
  /// waiting: for many shards, this takes only a few round trips.
  ///
  /// - Returns: The sources, in the order of the names.
  /// - Throws: As ``open(_:)`` and reading.
  public func openAll(_ names: [String]) throws(CheckpointError) -> [any ByteSource] {
    return try Threads.map(names, width: client.options.connections) { (name) throws(CheckpointError) in
      let source = try open(name)
      // Reading one byte fetches the whole start.
      if !(source is InputFile), source.byteCount > 0 { _ = try source.readBytes(0..<1) }
      return source
    }
  }
}

// MARK: - Keeping

extension RemoteDirectory {
  /// The same directory, whose files are stored in a cache in the Hugging Face layout while they are read.
  ///
  /// The data of an interrupted run is reused. Nothing is complete before ``completeKept()``, or for one file
  /// ``completeKept(_:)``: bytes that were never read would be missing.
  ///
  /// - Parameter path: The cache directory, as in `HF_HUB_CACHE`.
  /// - Throws: `.invalidRequest` for sources that are not on the Hugging Face hub, `.cannotCreate` if the cache cannot
  ///   be written or another process is writing there.
  public func keeping(in path: String) throws(CheckpointError) -> RemoteDirectory {
    guard case .huggingFace(let repository) = place, let commit else {
      throw CheckpointError(
        .invalidRequest, "only files from the Hugging Face hub can be kept in such a cache",
        path: self.path)
    }
    guard files.allSatisfy({ $0.blobName != nil && $0.byteCount != nil }) else {
      throw CheckpointError(
        .unsupported, "this hub does not list the identifiers that name files in a cache", path: self.path)
    }
    var copy = self
    copy.keeper = try HubKeeper(
      in: path, repository: repository.name, revision: repository.revision ?? "main", commit: commit,
      directory: repository.directory)
    return copy
  }

  /// Completes a kept file: fetches what was not read, compares its SHA-256 and links it into the snapshot.
  ///
  /// - Throws: What fetching and writing throw, `.sourceChanged` if the SHA-256 is not the published one.
  public func completeKept(_ name: String) throws(CheckpointError) {
    guard let keeper, let file = filesByName[name] else { return }
    _ = try open(name)
    try keeper.complete(file)
  }

  /// Completes all files of the directory, including those that were not opened.
  ///
  /// - Throws: As ``completeKept(_:)``.
  public func completeKept() throws(CheckpointError) {
    for file in files { try completeKept(file.name) }
  }

  private var folders: [String] {
    if case .huggingFace(let repository) = place { repository.directory } else { [] }
  }
}
