public import ByteStreams
public import TensorFormats

/// A store in which some weight files are compressed individually by `zstd`: `NAME.zst` is presented as `NAME`.
public struct CompressedFilesStore: ByteStore {
  private let base: any ByteStore
  /// The names on disk, by the names shown.
  private let stored: [String: String]

  private static let suffix = ".zst"

  /// - Returns: `nil` for a store without such files. If a file exists in both forms, the uncompressed one is
  ///   used.
  /// - Throws: What listing throws.
  public init?(_ base: any ByteStore) throws(CheckpointError) {
    var stored: [String: String] = [:]
    for name in try base.names() {
      guard let plain = Self.plain(name), try !base.isTaken(plain), try base.kind(of: name) == .file else {
        continue
      }
      stored[plain] = name
    }
    guard !stored.isEmpty else { return nil }
    self.base = base
    self.stored = stored
  }

  /// The original name of a compressed file; `nil` for anything but compressed weights.
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

  public func isTaken(_ name: String) throws(CheckpointError) -> Bool {
    try base.isTaken(stored[name] ?? name)
  }
  public func kind(of name: String) throws(CheckpointError) -> FileSystem.Kind? {
    try base.kind(of: stored[name] ?? name)
  }
  public func size(of name: String) throws(CheckpointError) -> Int? {
    try stored[name] == nil ? base.size(of: name) : open(name).byteCount
  }

  public func open(_ name: String) throws(CheckpointError) -> any ByteSource {
    guard let compressed = stored[name] else { return try base.open(name) }
    let file = try base.open(compressed)
    do throws(CheckpointError) {
      return try ArchiveSource(file)
    } catch {
      // A single large frame can only be read sequentially.
      guard error.code == .unsupported, let forward = try? SequentialZstdSource(file) else { throw error }
      return forward
    }
  }
}
