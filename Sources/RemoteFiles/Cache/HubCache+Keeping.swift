internal import ByteStreams
internal import Synchronization
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// A cache in the Hugging Face layout that files are stored in while they are read.
final class HubKeeper: Sendable {
  let cache: HubCache
  private let commit: String
  private let directory: [String]
  /// Held open and locked for the lifetime of this object.
  private let lock: HeldDirectory?
  /// The sources, by blob name.
  private let sources = Mutex<[String: KeptSource]>([:])

  /// Creates the directories.
  ///
  /// - Parameter revision: The revision as requested; a branch is recorded in `refs`.
  /// - Throws: `.cannotCreate` if that is not possible, or another process is writing there.
  init(
    in path: String, repository: String, revision: String, commit: String, directory: [String]
  ) throws(CheckpointError) {
    cache = HubCache(in: path, repository: repository)
    self.commit = commit
    self.directory = directory
    try FileSystem.createDirectory(path)
    try FileSystem.createDirectory(cache.root)
    lock = try HeldDirectory.open(cache.root)
    try lock?.lock()
    for name in ["blobs", "snapshots", "refs"] { try FileSystem.createDirectory("\(cache.root)/\(name)") }
    var place = "\(cache.root)/snapshots"
    for name in [commit] + directory {
      place += "/\(name)"
      try FileSystem.createDirectory(place)
    }
    guard revision != commit, !HuggingFaceListing.isCommit(revision) else { return }
    let parts = revision.split(separator: "/").map(String.init)
    guard parts.allSatisfy(RemoteFile.isPlain) else { return }
    place = "\(cache.root)/refs"
    for name in parts.dropLast() {
      place += "/\(name)"
      try FileSystem.createDirectory(place)
    }
    let text = Array(commit.utf8)
    unsafe try FileSystem.writeAtomically(text.span.bytes, to: "\(place)/\(parts.last ?? "main")")
  }

  /// A file that is kept while it is read. The same object for each call, and for names with the same content.
  ///
  /// - Parameter open: Opens the source of its bytes.
  func source(
    _ file: RemoteFile, _ open: () throws(CheckpointError) -> any ByteSource
  ) throws(CheckpointError) -> any ByteSource {
    try sources.withLock { (sources) throws(CheckpointError) -> any ByteSource in
      guard let identifier = file.blobName else { return try open() }
      if let source = sources[identifier] { return source }
      let source = try KeptSource(open(), place: "\(cache.root)/blobs/\(identifier)", sha256: file.sha256)
      sources[identifier] = source
      return source
    }
  }

  /// Completes a file and links it into the snapshot.
  func complete(_ file: RemoteFile) throws(CheckpointError) {
    guard let identifier = file.blobName, let source = sources.withLock({ $0[identifier] }) else { return }
    try source.complete()
    let link = "\(cache.snapshot(commit, directory))/\(file.name)"
    let destination = String(repeating: "../", count: 2 + directory.count) + "blobs/\(identifier)"
    guard FileSystem.linkDestination(of: link) != destination else { return }
    try FileSystem.removeFile(link)
    guard unsafe symlink(destination, link) == 0 else {
      throw CheckpointError(.cannotCreate, "cannot create the link to \(destination)", path: link)
    }
  }
}

extension RemoteFile {
  /// The file's blob name in a cache: its SHA-256 or Git object ID; `nil` if neither is listed.
  var blobName: String? {
    if let sha256 { return sha256.description }
    return gitIdentifier.flatMap { HuggingFaceListing.isCommit($0) ? $0 : nil }
  }
}
