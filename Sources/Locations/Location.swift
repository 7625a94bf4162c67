public import ByteStreams
public import Checkpoint
internal import Archives
public import RemoteFiles
public import TensorFormats

/// What a user names as a source: a path of this machine or an address, of a directory or of one file in it, archived or
/// not.
public struct Location: Sendable {
  /// What messages call it: the path, or the address without secrets.
  public let path: String
  /// Where the files are.
  public let store: any ByteStore
  /// The same as they lie there: of an archive its own files.
  public let stored: any ByteStore
  /// The one file that is meant; `nil` for all that lies there.
  public let name: String?
  private let kept: RemoteDirectory?

  /// Finds out what an argument names. Of an address the list of its files is fetched, of an archive its manifest.
  ///
  /// - Parameters:
  ///   - argument: As the user wrote it.
  ///   - cache: Where to keep what is fetched from a hub, in the form of Hugging Face's cache; `nil` to keep nothing.
  ///   - remote: How patient to be with servers.
  /// - Throws: `.notFound` if there is nothing, `.invalidRequest` for an address that makes no sense, `.inputOutput` if a
  ///   server cannot be asked; what is wrong with an archive's manifest.
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
        .invalidRequest, "is on this machine already: only what is fetched can be kept", path: argument)
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

  /// The store in the form in which it was archived, and the name of a file in it.
  private static func unpacked(
    _ base: any ByteStore, _ name: String?
  ) throws(CheckpointError) -> (any ByteStore, String?) {
    let plain = name.map { CompressedFilesStore.plain($0) ?? $0 }
    // A file that is not compressed is what it is, whatever lies beside it.
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
      // That a device fails says nothing about what lies there.
      guard error.code != .inputOutput else { throw error }
    }
    return (base, name)
  }

  /// Opens the checkpoint that lies there. Reads headers only.
  ///
  /// - Throws: As ``Checkpoint/Checkpoint/open(_:)``.
  public func open() throws(CheckpointError) -> Checkpoint {
    guard let name else { return try Checkpoint.open(in: store) }
    return try Checkpoint.open(name, in: store, path: path)
  }

  /// Completes what is kept: fetches what nobody has read, and compares the published SHA-256.
  ///
  /// - Throws: What fetching and writing throw, `.sourceChanged` if a file is not the published one.
  public func completeKept() throws(CheckpointError) { try kept?.completeKept() }
}
