public import TensorFormats

/// Bytes that can be read from any position: a local file today, an HTTP range or an archive member tomorrow.
///
/// Code above this protocol says *which* bytes it needs, never how they are stored.
public protocol ByteSource: Sendable {
  /// The name to use in messages: for a file its path.
  var path: String { get }

  /// The number of bytes. Fixed when the source is opened.
  var byteCount: Int { get }

  /// Fills the whole of `buffer` with the bytes from `offset` on.
  ///
  /// Safe to call from several threads at once.
  /// - Throws: `.truncated` if the bytes end first, `.inputOutput` if reading fails.
  func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError)

  /// Hints that `range` will be read soon. Has no effect on results.
  func prefetch(_ range: Range<Int>)

  /// Hints that `range` will not be read again. Has no effect on results.
  func discardCached(_ range: Range<Int>)

  /// How the bytes have changed since the source was opened, according to the system; `nil` if they have not.
  var change: SourceChange? { get throws(CheckpointError) }
}

/// How a file has changed while it was read.
public enum SourceChange: Hashable, Sendable {
  /// Its size or modification time has changed: what was read mixes two versions.
  case content
  /// Size and time are the same, but something changed: its mode or names, or its bytes with the time set back.
  case status
}

extension ByteSource {
  /// Does nothing: a source that cannot look ahead ignores the hint.
  public func prefetch(_ range: Range<Int>) {}

  /// Does nothing: a source that caches nothing ignores the hint.
  public func discardCached(_ range: Range<Int>) {}

  /// Nothing: memory does not change, and the clients of servers check for changes themselves.
  public var change: SourceChange? { nil }

  /// Checks that there are `count` bytes from `offset` on.
  ///
  /// - Throws: `.truncated` if there are not.
  func check(_ count: Int, at offset: Int) throws(CheckpointError) {
    guard offset >= 0, count <= byteCount - offset else {
      throw CheckpointError(
        .truncated, "\(count) bytes were requested, \(max(0, byteCount - offset)) are left", path: path,
        offset: offset)
    }
  }

  /// The bytes of `range` as an array.
  ///
  /// The range is compared with ``byteCount`` before anything is allocated, so a length that a file only claims
  /// costs nothing.
  /// - Throws: `.truncated` if `range` reaches beyond the end, `.inputOutput` if reading fails.
  public func readBytes(_ range: Range<Int>) throws(CheckpointError) -> [UInt8] {
    guard range.lowerBound >= 0, range.upperBound <= byteCount else {
      throw CheckpointError(
        .truncated,
        "bytes \(range.lowerBound) to \(range.upperBound) were requested, but there are only \(byteCount)",
        path: path, offset: byteCount)
    }
    var failure: CheckpointError?
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: range.count) { buffer, count in
      var span = unsafe MutableRawSpan(_unsafeBytes: UnsafeMutableRawBufferPointer(buffer))
      do throws(CheckpointError) {
        try read(into: &span, at: range.lowerBound)
        count = range.count
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return bytes
  }
}

/// Bytes held in memory, for tests, fuzzers and small files that were read whole.
public struct MemorySource: ByteSource {
  public let path: String
  private let bytes: [UInt8]

  /// Serves `bytes` under the name `path`.
  public init(_ bytes: [UInt8], path: String = "<memory>") {
    self.bytes = bytes
    self.path = path
  }

  public var byteCount: Int { bytes.count }

  public func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    let wanted = buffer.byteCount
    try check(wanted, at: offset)
    unsafe buffer.withUnsafeMutableBytes { target in
      unsafe bytes.withUnsafeBytes { all in
        unsafe target.copyMemory(from: UnsafeRawBufferPointer(rebasing: all[offset..<(offset + wanted)]))
      }
    }
  }
}
