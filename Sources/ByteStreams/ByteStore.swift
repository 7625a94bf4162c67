public import TensorFormats

/// Files by name, wherever they are kept: a directory today, an archive or a server tomorrow.
///
/// Code above this protocol says *which* file it needs, never where it is. Names are relative, their components
/// separated by `/`; the empty name is the store itself.
public protocol ByteStore: Sendable {
  /// Its name in messages: for a directory, its path.
  var path: String { get }

  /// The local directory that it is in; `nil` for a store elsewhere.
  var directory: String? { get }

  /// The name of one of its files in messages.
  func path(of name: String) -> String

  /// The names in a folder, in the order of their bytes.
  ///
  /// - Throws: `.notFound` if it cannot be listed.
  func names(in folder: String) throws(CheckpointError) -> [String]

  /// Whether anything has this name, including a dangling symbolic link.
  ///
  /// - Throws: As ``kind(of:)``.
  func isTaken(_ name: String) throws(CheckpointError) -> Bool

  /// What exists under a name, following symbolic links; `nil` if nothing does.
  ///
  /// - Throws: `.notFound` if access is denied, `.inputOutput` if the device fails: neither means that nothing exists
  ///   there.
  func kind(of name: String) throws(CheckpointError) -> FileSystem.Kind?

  /// The size of a file in bytes, without opening it; `nil` if there is no such file.
  ///
  /// - Throws: As ``kind(of:)``.
  func size(of name: String) throws(CheckpointError) -> Int?

  /// The SHA-256 published for a file; `nil` if there is none.
  func sha256(of name: String) -> Digest?

  /// Opens a file.
  ///
  /// - Throws: `.notFound` if there is no readable regular file of that name.
  func open(_ name: String) throws(CheckpointError) -> any ByteSource

  /// Opens files whose headers will be read.
  ///
  /// - Returns: In the order of the names.
  /// - Throws: As ``open(_:)``.
  func openAll(_ names: [String]) throws(CheckpointError) -> [any ByteSource]

  /// The store of one folder; the store itself for the empty name.
  func folder(_ name: String) -> any ByteStore
}

extension ByteStore {
  /// The name of one of its files in messages.
  public func path(of name: String) -> String { joinPath(path, name) }

  /// The names of the store itself.
  ///
  /// - Throws: As ``names(in:)``.
  public func names() throws(CheckpointError) -> [String] { try names(in: "") }

  /// Reads a whole file.
  ///
  /// - Parameters:
  ///   - name: The file.
  ///   - limit: The largest size that is read, in bytes.
  ///   - what: The kind of file, for the message about one that is too large.
  /// - Throws: `.notFound`, `.inputOutput`, `.malformed` for a file beyond the limit.
  public func read(
    _ name: String, limit: Int, as what: String = "such a file"
  ) throws(CheckpointError) -> [UInt8] {
    let file = try open(name)
    guard file.byteCount <= limit else {
      throw CheckpointError(
        .malformed, "\(file.byteCount) bytes are too many for \(what); the limit is \(limit)",
        path: file.path)
    }
    return try file.readBytes(0..<file.byteCount)
  }

  public func sha256(of name: String) -> Digest? { nil }

  public func openAll(_ names: [String]) throws(CheckpointError) -> [any ByteSource] {
    try names.map { (name) throws(CheckpointError) in try open(name) }
  }

  public func folder(_ name: String) -> any ByteStore { name.isEmpty ? self : FolderStore(of: self, name) }
}

/// A local directory.
public struct DirectoryStore: ByteStore {
  public let path: String

  /// The directory at `path`, which need not exist yet.
  public init(_ path: String) { self.path = path }

  public var directory: String? { path }

  public func names(in folder: String) throws(CheckpointError) -> [String] {
    try FileSystem.names(in: path(of: folder)).sorted { $0.precedesBytewise($1) }
  }

  public func isTaken(_ name: String) throws(CheckpointError) -> Bool {
    try FileSystem.isTaken(path(of: name))
  }
  public func kind(of name: String) throws(CheckpointError) -> FileSystem.Kind? {
    try FileSystem.kind(of: path(of: name))
  }
  public func size(of name: String) throws(CheckpointError) -> Int? {
    try FileSystem.size(of: path(of: name))
  }

  public func open(_ name: String) throws(CheckpointError) -> any ByteSource { try InputFile(path(of: name)) }
  public func folder(_ name: String) -> any ByteStore { DirectoryStore(path(of: name)) }
}

/// One folder of a store.
struct FolderStore: ByteStore {
  private let base: any ByteStore
  private let name: String

  init(of base: any ByteStore, _ name: String) {
    self.base = base
    self.name = name
  }

  var path: String { base.path(of: name) }
  var directory: String? { base.directory.map { joinPath($0, name) } }
  func path(of name: String) -> String { base.path(of: joinPath(self.name, name)) }
  func names(in folder: String) throws(CheckpointError) -> [String] {
    try base.names(in: joinPath(name, folder))
  }
  func isTaken(_ name: String) throws(CheckpointError) -> Bool {
    try base.isTaken(joinPath(self.name, name))
  }
  func kind(of name: String) throws(CheckpointError) -> FileSystem.Kind? {
    try base.kind(of: joinPath(self.name, name))
  }
  func sha256(of name: String) -> Digest? { base.sha256(of: joinPath(self.name, name)) }
  func size(of name: String) throws(CheckpointError) -> Int? { try base.size(of: joinPath(self.name, name)) }
  func open(_ name: String) throws(CheckpointError) -> any ByteSource {
    try base.open(joinPath(self.name, name))
  }
}
