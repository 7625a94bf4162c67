public import ByteStreams
public import TensorFormats

/// A folder of files in memory, so that a fuzzer can put its bytes beside sound files.
public struct MemoryFiles: ByteStore {
  private var files: [String: [UInt8]]

  /// Holds these files.
  public init(_ files: [String: [UInt8]]) { self.files = files }

  /// Reads the files of a folder, a few kilobytes each.
  ///
  /// - Throws: Errors of reading the files.
  public init(folder: String) throws(CheckpointError) {
    let store = DirectoryStore(folder)
    files = [:]
    for name in try store.names() where try store.kind(of: name) == .file {
      files[name] = try store.read(name, limit: 1 << 28)
    }
  }

  /// A file's bytes; `nil` if there is no such file.
  public subscript(name: String) -> [UInt8]? {
    get { files[name] }
    set { files[name] = newValue }
  }

  public var path: String { "memory" }
  public var directory: String? { nil }
  public func names(in folder: String) -> [String] { folder.isEmpty ? files.keys.sorted() : [] }
  public func isTaken(_ name: String) -> Bool { files[name] != nil }
  public func kind(of name: String) -> FileSystem.Kind? { files[name].map { _ in .file } }
  public func size(of name: String) -> Int? { files[name]?.count }

  public func open(_ name: String) throws(CheckpointError) -> any ByteSource {
    guard let bytes = files[name] else { throw CheckpointError(.notFound, "there is no \(name)") }
    return MemorySource(bytes)
  }
}
