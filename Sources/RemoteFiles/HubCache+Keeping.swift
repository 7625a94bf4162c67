internal import ByteStreams
internal import Synchronization
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// A cache in Hugging Face's form that files are put into while they are read.
final class HubKeeper: Sendable {
  let cache: HubCache
  private let commit: String
  private let directory: [String]
  /// Held open and locked for as long as this lives.
  private let lock: HeldDirectory?
  /// By the names of their blobs.
  private let sources = Mutex<[String: KeptSource]>([:])

  /// Makes the directories.
  ///
  /// - Parameter revision: What the commit was asked for as; a branch is noted in `refs`.
  /// - Throws: `.cannotCreate` if that is not possible, or another process writes there.
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

  /// A file that is kept while it is read. The same one for each call, and for names of the same content.
  ///
  /// - Parameter open: Where its bytes come from.
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
      throw CheckpointError(.cannotCreate, "the link to \(destination) cannot be made", path: link)
    }
  }
}

extension RemoteFile {
  /// What a cache calls the file: its SHA-256, or Git's identifier; `nil` where neither is listed.
  var blobName: String? {
    if let sha256 { return sha256.description }
    return gitIdentifier.flatMap { HuggingFaceListing.isCommit($0) ? $0 : nil }
  }
}
