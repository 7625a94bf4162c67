internal import Archives
public import ByteStreams
public import TensorFormats

/// An archive that `step3-convert archive` wrote, wherever it lies, seen as the directory that it was made of: of what is
/// read only the frames that hold it are decompressed.
public struct ArchiveStore: ByteStore {
  private let base: any ByteStore
  private let files: [String: ArchiveManifest.File]
  /// By folder.
  private let members: [String: [String]]

  /// - Returns: `nil` for a store that is no archive: it has no `archive.json`, which is written last.
  /// - Throws: `.malformed` or `.unsupported` if that is not one that can be read.
  public init?(_ base: any ByteStore) throws(CheckpointError) {
    guard base.kind(of: ArchiveManifest.fileName) == .file else { return nil }
    let manifest = try ArchiveDirectory.read(base.open(ArchiveManifest.fileName))
    self.base = base
    files = Dictionary(manifest.files.map { ($0.path, $0) }, uniquingKeysWith: { first, _ in first })
    var members: [String: Set<String>] = ["": []]
    for path in files.keys {
      // Every folder on the way is a member of the one that it lies in.
      var inner = path
      while !inner.isEmpty {
        let (folder, name) = splitPath(inner)
        let outer = folder == "." ? "" : folder
        members[outer, default: []].insert(name)
        inner = outer
      }
    }
    self.members = members.mapValues { $0.sorted { $0.precedesBytewise($1) } }
  }

  public var path: String { base.path }
  public var directory: String? { base.directory }
  public func path(of name: String) -> String { base.path(of: name) }

  public func names(in folder: String) throws(CheckpointError) -> [String] {
    guard let names = members[folder] else {
      throw CheckpointError(.notFound, "there is no such folder in the archive", path: path(of: folder))
    }
    return names
  }

  public func isTaken(_ name: String) -> Bool { kind(of: name) != nil }
  public func kind(of name: String) -> FileSystem.Kind? {
    files[name] != nil ? .file : members[name] != nil ? .directory : nil
  }
  public func size(of name: String) -> Int? { files[name]?.bytes }
  public func sha256(of name: String) -> Digest? {
    files[name].flatMap { Digest(hexadecimal: "\($0.sha256)") }
  }

  public func open(_ name: String) throws(CheckpointError) -> any ByteSource {
    guard let file = files[name] else {
      throw CheckpointError(.notFound, "there is no such file in the archive", path: path(of: name))
    }
    return try ArchiveDirectory.source(of: file, base.open(file.stored))
  }
}

/// A store some of whose weight files are compressed one by one, as `zstd` makes them: `NAME.zst` is shown as `NAME`.
public struct CompressedFilesStore: ByteStore {
  private let base: any ByteStore
  /// The names on disk, by the names shown.
  private let stored: [String: String]

  private static let suffix = ".zst"

  /// - Returns: `nil` for a store without such files. Of a file that is there both ways the one counts that is not
  ///   compressed.
  /// - Throws: What listing throws.
  public init?(_ base: any ByteStore) throws(CheckpointError) {
    var stored: [String: String] = [:]
    for name in try base.names() {
      guard let plain = Self.plain(name), !base.isTaken(plain), base.kind(of: name) == .file else { continue }
      stored[plain] = name
    }
    guard !stored.isEmpty else { return nil }
    self.base = base
    self.stored = stored
  }

  /// The name of the file that a compressed one stands for; `nil` for anything but compressed weights.
  public static func plain(_ name: String) -> String? {
    guard name.hasSuffix(suffix) else { return nil }
    let plain = String(name.dropLast(suffix.count))
    return plain.hasSuffix(".safetensors") || plain.hasSuffix(".gguf") ? plain : nil
  }

  public var path: String { base.path }
  public var directory: String? { base.directory }
  public func path(of name: String) -> String { base.path(of: name) }

  public func names(in folder: String) throws(CheckpointError) -> [String] {
    let names = try base.names(in: folder)
    guard folder.isEmpty else { return names }
    let hidden = Set(stored.values)
    return (names.filter { !hidden.contains($0) } + stored.keys).sorted { $0.precedesBytewise($1) }
  }

  public func isTaken(_ name: String) -> Bool { base.isTaken(stored[name] ?? name) }
  public func kind(of name: String) -> FileSystem.Kind? { base.kind(of: stored[name] ?? name) }
  public func size(of name: String) -> Int? {
    stored[name] == nil ? base.size(of: name) : (try? open(name))?.byteCount
  }

  public func open(_ name: String) throws(CheckpointError) -> any ByteSource {
    guard let compressed = stored[name] else { return try base.open(name) }
    let file = try base.open(compressed)
    do throws(CheckpointError) {
      return try ArchiveSource(file)
    } catch {
      // One large frame can only be read from its start on.
      guard error.code == .unsupported, let forward = try? SequentialZstdSource(file) else { throw error }
      return forward
    }
  }
}
