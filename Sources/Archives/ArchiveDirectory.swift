public import ByteStreams
public import TensorFormats

/// A directory that `step3-convert archive` wrote, seen as the directory that it was made of.
public struct ArchiveDirectory: Sendable {
  /// Where it is.
  public let path: String
  /// What is in it.
  public let manifest: ArchiveManifest
  private let places: [String: Int]

  /// Opens a directory that is an archive.
  ///
  /// - Returns: `nil` if it is none: it has no `archive.json`, which is written last.
  /// - Throws: `.malformed` or `.unsupported` if that is not one that can be read.
  public static func open(_ path: String) throws(CheckpointError) -> ArchiveDirectory? {
    let manifest = "\(path)/\(ArchiveManifest.fileName)"
    guard FileSystem.kind(of: manifest) == .file else { return nil }
    return try ArchiveDirectory(path: path, manifest: read(InputFile(manifest)))
  }

  /// The manifest in a file.
  ///
  /// - Throws: `.malformed`, `.unsupported`; what reading throws.
  public static func read(_ file: some ByteSource) throws(CheckpointError) -> ArchiveManifest {
    do throws(CheckpointError) {
      guard file.byteCount <= ArchiveManifest.largestByteCount else {
        throw CheckpointError(.malformed, "\(file.byteCount) bytes are too many for an archive's manifest")
      }
      return try ArchiveManifest(parsing: file.readBytes(0..<file.byteCount))
    } catch {
      throw error.at(path: file.path)
    }
  }

  private init(path: String, manifest: ArchiveManifest) {
    self.path = path
    self.manifest = manifest
    places = Dictionary(manifest.files.enumerated().map { ($1.path, $0) }) { first, _ in first }
  }

  /// The paths of the original directory's files, sorted as they stand in the manifest.
  public var names: [String] { manifest.files.map(\.path) }

  /// What the manifest says of an original file; `nil` if there was none of that path.
  public subscript(name: String) -> ArchiveManifest.File? { places[name].map { manifest.files[$0] } }

  /// The bytes of an original file, of which only what is read is decompressed.
  ///
  /// - Throws: `.notFound` if there was none, or it is not there any more; `.malformed`, `.truncated` or `.unsupported` if
  ///   what is there is not what the manifest says.
  public func source(of name: String) throws(CheckpointError) -> any ByteSource {
    guard let file = self[name] else {
      throw CheckpointError(.notFound, "there is no '\(name.printable)' in this archive", path: path)
    }
    return try Self.source(of: file, InputFile("\(path)/\(file.stored)"))
  }

  /// The bytes of an original file that lies in `stored`.
  ///
  /// - Throws: As ``source(of:)``.
  public static func source(
    of file: ArchiveManifest.File, _ stored: any ByteSource
  ) throws(CheckpointError) -> any ByteSource {
    guard stored.byteCount == file.storedBytes else {
      throw CheckpointError(
        stored.byteCount < file.storedBytes ? .truncated : .malformed,
        "has \(stored.byteCount) bytes, the manifest says \(file.storedBytes)", path: stored.path,
        remedy: "fetch the file again")
    }
    guard file.isCompressed else { return stored }
    let source = try ArchiveSource(stored)
    guard source.byteCount == file.bytes else {
      throw CheckpointError(
        .malformed, "stands for \(source.byteCount) bytes, the manifest says \(file.bytes)",
        path: stored.path,
        remedy: "fetch the file again")
    }
    return source
  }
}
