public import ByteStreams
public import Checkpoint
internal import Archives
public import RemoteFiles
public import TensorFormats

/// A source named by the user: a local path or an address of a directory or of one file in it, archived or not.
public struct Location: Sendable {
  /// Its name in messages: the path, or the address without secrets.
  public let path: String
  /// The store that holds the files.
  public let store: any ByteStore
  /// The store without unpacking: for an archive, its own files.
  public let stored: any ByteStore
  /// The file named; `nil` for the whole directory.
  public let name: String?
  private let kept: RemoteDirectory?

  /// Resolves an argument. For an address, fetches the list of its files; for an archive, reads its manifest.
  ///
  /// - Parameters:
  ///   - argument: As the user wrote it.
  ///   - cache: Where to keep what is fetched from a hub, in the layout of the Hugging Face cache; `nil` to keep
  ///     nothing.
  ///   - remote: Timeouts and retries for servers.
  /// - Throws: `.notFound` if there is nothing, `.invalidRequest` for an invalid address, `.inputOutput` if a server
  ///   cannot be reached; errors of an archive's manifest.
  public init(
    _ argument: String, keeping cache: String? = nil, remote options: RemoteOptions = RemoteOptions()
  ) throws(CheckpointError) {
    guard !RemoteDirectory.isRemote(argument) else {
      var directory = try RemoteDirectory(argument, options: options)
      if let cache { directory = try directory.keeping(in: cache) }
      kept = cache == nil ? nil : directory
      stored = directory
      (store, name) = try Self.unpacked(directory, directory.file)
      path = directory.path(of: directory.file ?? "")
      return
    }
    guard cache == nil else {
      throw CheckpointError(
        .invalidRequest, "is a local path: only what is fetched can be kept", path: argument)
    }
    kept = nil
    let resolved = try Checkpoint.resolve(argument)
    path = resolved
    guard try FileSystem.kind(of: resolved) != .directory else {
      stored = DirectoryStore(resolved)
      (store, name) = try Self.unpacked(stored, nil)
      return
    }
    let (directory, file) = splitPath(resolved)
    stored = DirectoryStore(directory)
    (store, name) = try Self.unpacked(stored, file)
  }

  /// The store as it was before archiving, and the name of a file in it.
  private static func unpacked(
    _ base: any ByteStore, _ name: String?
  ) throws(CheckpointError) -> (any ByteStore, String?) {
    let plain = name.map { CompressedFilesStore.plain($0) ?? $0 }
    // An uncompressed file is used as it is, whatever is next to it.
    if let name, plain == name { return (base, name) }
    let names = try base.names()
    let hasPlainWeights = names.contains { $0.hasSuffix(".safetensors") || $0.hasSuffix(".gguf") }
    let isUnfinished = names.contains(OutputMarkers.journal) && !names.contains(OutputMarkers.manifest)
    if !hasPlainWeights, !isUnfinished, let archive = try ArchiveDirectory(in: base) {
      return (archive, plain)
    }
    do throws(CheckpointError) {
      if let compressed = try CompressedFilesStore(base) { return (compressed, plain) }
    } catch {
      // A device failure says nothing about what is stored there.
      guard error.code != .inputOutput else { throw error }
    }
    return (base, name)
  }

  /// Opens the checkpoint at this location. Reads headers only.
  ///
  /// - Throws: As ``Checkpoint/Checkpoint/open(_:)``.
  public func open() throws(CheckpointError) -> Checkpoint {
    guard let name else { return try Checkpoint.open(in: store) }
    return try Checkpoint.open(name, in: store, path: path)
  }

  /// Completes the kept copy: fetches what has not been read, and compares the published SHA-256.
  ///
  /// - Throws: What fetching and writing throw, `.sourceChanged` if a file is not the published one.
  public func completeKept() throws(CheckpointError) { try kept?.completeKept() }
}
