internal import ByteStreams
package import JSON
public import TensorFormats

/// `archive.json`: what an archive directory holds and what it was made from. Written last.
///
/// It holds nothing that differs between two runs: no time, no host, no local path.
public struct ArchiveManifest: Hashable, Sendable {
  /// The name of the file.
  public static let fileName = "archive.json"
  /// What a compressed file's name ends with.
  public static let suffix = ".zst"
  static let format = "step3-archive"
  static let currentVersion = 1
  /// The size limit for reading and writing.
  package static let largestByteCount = 1 << 28
  /// The maximum directory depth.
  package static let deepestPath = 32

  /// One file.
  public struct File: Hashable, Sendable {
    /// Its path below the original directory.
    public var path: String
    /// Its size.
    public var bytes: Int
    /// SHA-256 of it, in hexadecimal.
    public var sha256: String
    /// Its path in the archive: ``path``, with ``ArchiveManifest/suffix`` if it is compressed.
    public var stored: String
    /// Its size in the archive.
    public var storedBytes: Int
    /// How it is compressed, for display; empty if it is stored uncompressed.
    public var methods: [MethodTotal]

    /// Whether it is in the container.
    public var isCompressed: Bool { stored != path }

    /// Describes a file.
    public init(
      path: String, bytes: Int, sha256: String, stored: String, storedBytes: Int, methods: [MethodTotal]
    ) {
      self.path = path
      self.bytes = bytes
      self.sha256 = sha256
      self.stored = stored
      self.storedBytes = storedBytes
      self.methods = methods
    }
  }

  /// What one method made of all the data of one type.
  public struct MethodTotal: Hashable, Sendable {
    /// The type; `nil` for headers and gaps.
    public var elementType: String?
    /// `ArchiveMethod.name`.
    public var method: String
    /// The original size.
    public var bytes: Int
    /// The size in the archive.
    public var storedBytes: Int

    /// The totals of one method.
    public init(elementType: String?, method: String, bytes: Int, storedBytes: Int) {
      self.elementType = elementType
      self.method = method
      self.bytes = bytes
      self.storedBytes = storedBytes
    }
  }

  /// The toolkit's version.
  public var tool: String
  /// The version of libzstd.
  public var zstd: String
  /// Every file, by path.
  public var files: [File]
  /// The directories that hold no file, by path.
  public var directories: [String]

  /// Describes an archive.
  public init(tool: String, zstd: String, files: [File], directories: [String]) {
    self.tool = tool
    self.zstd = zstd
    self.files = files
    self.directories = directories
  }

  /// The total original size.
  public var bytes: Int { files.reduce(0) { $0 + $1.bytes } }

  /// What they take.
  public var storedBytes: Int { files.reduce(0) { $0 + $1.storedBytes } }
}

// MARK: - Writing

extension ArchiveManifest: Encodable {
  private enum Key: String, CodingKey {
    case format, version, tool, zstd, files, directories
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(Self.format, forKey: .format)
    try container.encode(Self.currentVersion, forKey: .version)
    try container.encode(tool, forKey: .tool)
    try container.encode(zstd, forKey: .zstd)
    try container.encode(files, forKey: .files)
    try container.encode(directories, forKey: .directories)
  }

  /// The file's content: equal values give equal bytes.
  public var text: [UInt8] { JSONText.document(self) }
}

extension ArchiveManifest.File: Encodable {}
extension ArchiveManifest.MethodTotal: Encodable {}

// MARK: - Reading

extension ArchiveManifest {
  /// Reads an untrusted manifest: no path may lead out of the directory or appear twice, and no size may be
  /// impossible.
  ///
  /// - Throws: `.malformed` if it is not a manifest, `.unsupported` for another version.
  public init(parsing text: [UInt8]) throws(CheckpointError) {
    let value = try JSONValue(parsing: text)
    guard value["format"]?.text == Self.format else {
      throw CheckpointError(.malformed, "is not an archive manifest: its format is not \"\(Self.format)\"")
    }
    guard let version = value["version"]?.whole else {
      throw CheckpointError(.malformed, "the archive's manifest has no version")
    }
    guard version == Self.currentVersion else {
      throw CheckpointError(
        .unsupported, "the archive has version \(version), this tool reads \(Self.currentVersion)",
        remedy: "use the version of step3-toolkit that wrote it")
    }
    guard let tool = value["tool"]?.text, let zstd = value["zstd"]?.text, let files = value["files"]?.items,
      let directories = value["directories"]?.items
    else { throw CheckpointError(.malformed, "the archive's manifest lacks a member") }
    self.init(tool: tool, zstd: zstd, files: [], directories: [])
    var paths: Set<String> = []
    func check(_ path: String) throws(CheckpointError) {
      guard Self.isPlain(path), paths.insert(path).inserted else {
        throw CheckpointError(
          .malformed,
          "the archive's manifest has the path '\(path.printable)', which leads out of the archive or appears twice"
        )
      }
    }
    for item in files {
      let file = try File(item)
      try check(file.path)
      if file.isCompressed { try check(file.stored) }
      self.files.append(file)
    }
    for item in directories {
      guard let path = item.text else {
        throw CheckpointError(.malformed, "a directory's path is \(item.kind)")
      }
      try check(path)
      self.directories.append(path)
    }
    let (_, overflow) = self.files.reduce((0, false)) { sum, file in
      let (total, more) = sum.0.addingReportingOverflow(file.bytes)
      return (total, sum.1 || more)
    }
    guard !overflow else { throw CheckpointError(.malformed, "the sizes in the archive's manifest overflow") }
  }

  /// Whether a path only leads downwards, and not to a marker file or a temporary name.
  package static func isPlain(_ path: String) -> Bool {
    let components = path.split(separator: "/", omittingEmptySubsequences: false)
    return components.count <= deepestPath && path != fileName
      && components.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." && !$0.utf8.contains(0) }
  }
}

extension ArchiveManifest.File {
  /// A file as the manifest describes it.
  package init(_ value: JSONValue) throws(CheckpointError) {
    guard let path = value["path"]?.text, let bytes = value["bytes"]?.whole,
      let sha256 = value["sha256"]?.text,
      let stored = value["stored"]?.text, let storedBytes = value["storedBytes"]?.whole,
      let methods = value["methods"]?.items
    else { throw CheckpointError(.malformed, "a file of the archive's manifest lacks a member") }
    guard bytes >= 0, storedBytes >= 0, Digest(hexadecimal: sha256)?.bytes.count == 32,
      stored == path ? storedBytes == bytes : stored == path + ArchiveManifest.suffix
    else {
      throw CheckpointError(
        .malformed, "the archive's manifest contradicts itself about '\(path.printable)'")
    }
    self.init(path: path, bytes: bytes, sha256: sha256, stored: stored, storedBytes: storedBytes, methods: [])
    for method in methods {
      guard let name = method["method"]?.text, let bytes = method["bytes"]?.whole,
        let storedBytes = method["storedBytes"]?.whole
      else { throw CheckpointError(.malformed, "a method of the archive's manifest lacks a member") }
      self.methods.append(
        ArchiveManifest.MethodTotal(
          elementType: method["elementType"]?.text, method: name, bytes: bytes, storedBytes: storedBytes))
    }
  }
}
