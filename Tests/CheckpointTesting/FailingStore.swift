public import ByteStreams
public import TensorFormats

/// A store in which one file lies on a bad sector.
public struct FailingStore: ByteStore {
  private let base: any ByteStore
  private let name: String
  private let failsAt: Int?

  /// - Parameters:
  ///   - name: The file.
  ///   - failsAt: Where reading fails; `nil` for opening.
  public init(base: any ByteStore, name: String, failsAt: Int?) {
    self.base = base
    self.name = name
    self.failsAt = failsAt
  }

  public var path: String { base.path }
  public var directory: String? { base.directory }
  public func path(of name: String) -> String { base.path(of: name) }
  public func names(in folder: String) throws(CheckpointError) -> [String] { try base.names(in: folder) }
  public func isTaken(_ name: String) throws(CheckpointError) -> Bool { try base.isTaken(name) }
  public func kind(of name: String) throws(CheckpointError) -> FileSystem.Kind? { try base.kind(of: name) }
  public func size(of name: String) throws(CheckpointError) -> Int? { try base.size(of: name) }

  public func open(_ name: String) throws(CheckpointError) -> any ByteSource {
    let source = try base.open(name)
    guard name == self.name else { return source }
    guard let failsAt else { throw Self.failure(source.path) }
    return FailingSource(base: source, failsAt: failsAt)
  }

  fileprivate static func failure(_ path: String) -> CheckpointError {
    CheckpointError(.inputOutput, "reading failed: Input/output error", path: path)
  }
}

private struct FailingSource: ByteSource {
  let base: any ByteSource
  let failsAt: Int

  var path: String { base.path }
  var byteCount: Int { base.byteCount }

  func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    guard !(offset..<offset + buffer.byteCount).contains(failsAt) else { throw FailingStore.failure(path) }
    try base.read(into: &buffer, at: offset)
  }
}
