/// A byte range of one of several numbered files: what a caller needs that does not read by itself.
public struct FileRange: Hashable, Sendable {
  /// The file's number among those of a checkpoint.
  public var file: Int
  /// From its start.
  public var bytes: Range<Int>

  /// Names bytes.
  public init(file: Int, bytes: Range<Int>) {
    self.file = file
    self.bytes = bytes
  }
}
