public import ByteStreams
internal import Checkpoint
public import TensorFormats

extension Manifest {
  /// Reads the manifest of an output directory, and checks all of it that can be checked without the files.
  ///
  /// Memory: the manifest itself plus a small multiple of the file; anything that does not start like a manifest is
  /// refused by its first bytes.
  ///
  /// - Throws: `.notFound` if there is none, `.unfinished` if the directory is not complete, `.malformed` if the file
  ///   of its name is not a manifest or contradicts itself, `.unsupported` if another version of the toolkit wrote
  ///   it.
  public static func read(from directory: String) throws(CheckpointError) -> Manifest {
    try read(in: DirectoryStore(directory))
  }

  /// The same, in any store.
  ///
  /// - Throws: As ``read(from:)``.
  public static func read(in store: any ByteStore) throws(CheckpointError) -> Manifest {
    let (name, path) = (OutputMarkers.manifest, store.path(of: OutputMarkers.manifest))
    guard try store.isTaken(name) else {
      if try store.kind(of: OutputMarkers.journal) == .file {
        throw CheckpointError(
          .unfinished, "this is the unfinished output of an interrupted conversion", path: store.path,
          remedy: "run the same step3-convert command again with --resume")
      }
      throw CheckpointError(.notFound, "there is no \(name)", path: store.path)
    }
    switch try store.kind(of: name) {
    case .file: break
    case .directory: throw noManifest("is a directory", path)
    case .other: throw noManifest("is a pipe, a socket or a device", path)
    case nil: throw noManifest("is a dangling symbolic link", path)
    }
    return try parse(store.open(name))
  }

  /// The same in a directory held open, without following links.
  ///
  /// - Throws: As ``read(from:)``, and `.cannotCreate` for a symbolic link.
  static func read(in directory: HeldDirectory) throws(CheckpointError) -> Manifest {
    try parse(InputFile(OutputMarkers.manifest, in: directory))
  }

  private static func noManifest(_ what: String, _ path: String) -> CheckpointError {
    CheckpointError(
      .malformed, "\(what), where step3-convert would write the manifest", path: path,
      remedy: "move it away if this directory has no manifest, or restore the manifest")
  }

  private static func parse(_ file: any ByteSource) throws(CheckpointError) -> Manifest {
    let (manifest, text) = try document.readWithText(file)
    do throws(CheckpointError) {
      try ManifestCheck(manifest).run(text)
    } catch {
      throw error.at(path: file.path)
    }
    return manifest
  }
}
