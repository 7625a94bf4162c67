public import ByteStreams
public import TensorFormats

/// An archive that `step3-convert archive` wrote, wherever it is stored, presented as the directory that it was made
/// from: a read decompresses only the frames that hold the requested bytes.
public struct ArchiveDirectory: ByteStore {
  /// The archive's contents.
  public let manifest: ArchiveManifest
  private let base: any ByteStore
  private let files: [String: ArchiveManifest.File]
  /// The names in each folder.
  private let members: [String: [String]]

  /// Opens a store that is an archive.
  ///
  /// - Returns: `nil` if it is not an archive: it has no `archive.json`, which is written last.
  /// - Throws: `.malformed` or `.unsupported` if the manifest cannot be read.
  public init?(in base: any ByteStore) throws(CheckpointError) {
    guard try base.kind(of: ArchiveManifest.fileName) == .file else { return nil }
    manifest = try Self.read(base.open(ArchiveManifest.fileName))
    self.base = base
    files = Dictionary(manifest.files.map { ($0.path, $0) }, uniquingKeysWith: { first, _ in first })
    var members: [String: Set<String>] = ["": []]
    for path in Array(files.keys) + manifest.directories {
      // Every intermediate folder is a member of its parent.
      var inner = path
      while !inner.isEmpty {
        let (folder, name) = splitPath(inner)
        let outer = folder == "." ? "" : folder
        members[outer, default: []].insert(name)
        inner = outer
      }
    }
    for directory in manifest.directories { members[directory] = members[directory] ?? [] }
    self.members = members.mapValues { $0.sorted { $0.precedesBytewise($1) } }
  }

  /// The manifest in a file.
  ///
  /// - Throws: `.malformed`, `.unsupported`; what reading throws.
  public static func read(_ file: any ByteSource) throws(CheckpointError) -> ArchiveManifest {
    do throws(CheckpointError) {
      guard file.byteCount <= ArchiveManifest.largestByteCount else {
        throw CheckpointError(.malformed, "\(file.byteCount) bytes are too large for an archive manifest")
      }
      return try ArchiveManifest(parsing: file.readBytes(0..<file.byteCount))
    } catch {
      throw error.at(path: file.path)
    }
  }
}

// MARK: - The original directory

extension ArchiveDirectory {
  public var path: String { base.path }
  public var directory: String? { base.directory }
  public func path(of name: String) -> String { base.path(of: name) }

  public func names(in folder: String) throws(CheckpointError) -> [String] {
    guard let names = members[folder] else {
      throw CheckpointError(.notFound, "there is no '\(folder.printable)' in this archive", path: path)
    }
    return names
  }

  public func isTaken(_ name: String) -> Bool { kind(of: name) != nil }
  public func kind(of name: String) -> FileSystem.Kind? {
    files[name] != nil ? .file : members[name] != nil ? .directory : nil
  }
  public func size(of name: String) -> Int? { files[name]?.bytes }
  public func sha256(of name: String) -> Digest? { files[name].flatMap { Digest(hexadecimal: $0.sha256) } }

  /// The bytes of an original file.
  ///
  /// - Throws: `.notFound` if the file was never there or is no longer there; `.malformed`, `.truncated` or
  ///   `.unsupported` if it does not match the manifest.
  public func open(_ name: String) throws(CheckpointError) -> any ByteSource {
    guard let file = files[name] else {
      throw CheckpointError(.notFound, "there is no '\(name.printable)' in this archive", path: path)
    }
    let stored = try base.open(file.stored)
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
        .malformed, "decompresses to \(source.byteCount) bytes, the manifest says \(file.bytes)",
        path: stored.path,
        remedy: "fetch the file again")
    }
    return source
  }
}
