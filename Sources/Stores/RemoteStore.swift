public import ByteStreams
public import RemoteFiles
public import TensorFormats

/// A directory on a hub or another server.
public struct RemoteStore: ByteStore {
  private let remote: RemoteDirectory
  private let files: [String: RemoteFile]

  /// Shows a directory whose list is there already.
  public init(_ remote: RemoteDirectory) {
    self.remote = remote
    files = Dictionary(remote.files.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
  }

  public var path: String { remote.path }
  public var directory: String? { nil }
  public func path(of name: String) -> String { name.isEmpty ? path : "\(path)/\(name)" }

  /// The names in the order of their bytes. What lies in folders of a hub is not listed: a folder is a store of its own.
  public func names(in folder: String) throws(CheckpointError) -> [String] {
    guard folder.isEmpty else {
      throw CheckpointError(.notFound, "there is no such folder", path: path(of: folder))
    }
    return try remote.names()
  }

  public func isTaken(_ name: String) -> Bool { files[name] != nil }
  public func kind(of name: String) -> FileSystem.Kind? {
    name.isEmpty ? .directory : files[name].map { _ in .file }
  }
  public func size(of name: String) -> Int? {
    guard let file = files[name] else { return nil }
    return file.byteCount ?? (try? remote.open(name))?.byteCount
  }
  public func sha256(of name: String) -> Digest? {
    files[name]?.sha256
  }

  public func open(_ name: String) throws(CheckpointError) -> any ByteSource { try remote.open(name) }

  /// Opens files side by side and fetches the start of each: many headers take a few round trips.
  public func openAll(_ names: [String]) throws(CheckpointError) -> [any ByteSource] {
    try remote.open(names)
  }
}
