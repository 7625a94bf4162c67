internal import CFileShims
public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// A regular file opened for positioned reads. Symbolic links are followed, as Hugging Face's cache needs.
///
/// `Sendable`: the descriptor is immutable, lives from `init` to `deinit`, and `pread` keeps no position.
public final class InputFile: ByteSource {
  public let path: String
  public let byteCount: Int
  private let descriptor: CInt
  private let opened: FileStamp

  /// Opens a file.
  ///
  /// - Throws: `.notFound` if there is no readable regular file at `path`, `.inputOutput` if its device fails. Pipes,
  ///   devices and directories are refused without waiting for them.
  public convenience init(_ path: String) throws(CheckpointError) {
    let descriptor = ByteStreams.opened { unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
    guard descriptor >= 0 else { throw openingError(errno, "cannot be opened", path: path) }
    try self.init(descriptor, path: path)
  }

  /// Opens a file below a directory held open. No path component may be a symbolic link.
  ///
  /// - Throws: `.notFound` if there is no readable regular file of that name, `.cannotCreate` if there is a link.
  public convenience init(_ name: String, in directory: HeldDirectory) throws(CheckpointError) {
    let descriptor = try directory.openDescriptor(name, O_RDONLY | O_NONBLOCK, failing: "cannot be opened")
    try self.init(descriptor, path: directory.path(of: name))
  }

  /// Takes over an open descriptor.
  private init(_ descriptor: CInt, path: String) throws(CheckpointError) {
    let status: stat
    do throws(CheckpointError) {
      status = try ByteStreams.status(of: descriptor, path: path)
    } catch {
      close(descriptor)
      throw error
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw CheckpointError(.notFound, "is not a regular file", path: path)
    }
    self.path = path
    self.byteCount = Int(status.st_size)
    self.descriptor = descriptor
    opened = FileStamp(status)
  }

  deinit { close(descriptor) }

  public func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    try readFully(descriptor, path: path, into: &buffer, at: offset)
  }

  public func prefetch(_ range: Range<Int>) {
    cfs_prefetch(descriptor, Int64(range.lowerBound), Int64(range.count))
  }

  public func discardCached(_ range: Range<Int>) {
    cfs_drop_cache(descriptor, Int64(range.lowerBound), Int64(range.count))
  }
}

extension InputFile {
  public var change: SourceChange? {
    get throws(CheckpointError) {
      let now = FileStamp(try status(of: descriptor, path: path))
      if now == opened { return nil }
      return now.content == opened.content ? .status : .content
    }
  }
}

/// What shows that a file was changed.
private struct FileStamp: Equatable {
  struct Content: Equatable {
    let bytes: Int
    let seconds: Int
    let nanoseconds: Int
  }

  let content: Content
  let seconds: Int
  let nanoseconds: Int

  init(_ status: stat) {
    #if canImport(Glibc)
    let (modified, changed) = (status.st_mtim, status.st_ctim)
    #else
    let (modified, changed) = (status.st_mtimespec, status.st_ctimespec)
    #endif
    content = Content(
      bytes: Int(status.st_size), seconds: Int(modified.tv_sec), nanoseconds: Int(modified.tv_nsec))
    (seconds, nanoseconds) = (Int(changed.tv_sec), Int(changed.tv_nsec))
  }
}

/// Opens something, retrying if interrupted by a signal.
func opened(_ open: () -> CInt) -> CInt {
  while true {
    let descriptor = open()
    if descriptor >= 0 || errno != EINTR { return descriptor }
  }
}

/// The status of an open file.
///
/// - Throws: `.inputOutput`; the file system may be gone.
func status(of descriptor: CInt, path: String) throws(CheckpointError) -> stat {
  var status = stat()
  while unsafe fstat(descriptor, &status) != 0 {
    guard errno == EINTR else {
      throw CheckpointError(.inputOutput, "cannot be examined: \(systemMessage(errno))", path: path)
    }
  }
  return status
}

/// The status of an open file to be written; closes it if that fails, or if the file has another name.
///
/// - Throws: `.cannotCreate`, `.inputOutput`.
func ownStatus(of descriptor: CInt, path: String) throws(CheckpointError) -> stat {
  do throws(CheckpointError) {
    let status = try status(of: descriptor, path: path)
    guard status.st_mode & S_IFMT == S_IFREG, status.st_nlink <= 1 else {
      throw CheckpointError(
        .cannotCreate, "is not a regular file with only this name", path: path,
        remedy: "remove it, or choose another output")
    }
    return status
  } catch {
    close(descriptor)
    throw error
  }
}

/// Fills the whole of `buffer` from `offset` on.
///
/// - Throws: `.truncated` if the file ends first, `.inputOutput` if reading fails.
func readFully(
  _ descriptor: CInt, path: String, into buffer: inout MutableRawSpan, at offset: Int
) throws(CheckpointError) {
  var done = 0
  var failure: CheckpointError?
  unsafe buffer.withUnsafeMutableBytes { target in
    while done < target.count {
      // One call moves at most 1 GiB, well below every system's limit.
      let wanted = min(target.count - done, 1 << 30)
      let count = unsafe pread(
        descriptor, target.baseAddress.unsafelyUnwrapped + done, wanted, off_t(offset + done))
      if count > 0 {
        done += count
      } else if count == 0 {
        failure = CheckpointError(
          .truncated, "the file ends \(target.count - done) bytes early", path: path, offset: offset + done,
          remedy: "it was truncated while being read, or its download is incomplete")
        return
      } else if errno != EINTR {
        failure = CheckpointError(
          .inputOutput, "reading failed: \(systemMessage(errno))", path: path, offset: offset + done)
        return
      }
    }
  }
  if let failure { throw failure }
}

/// The system's message for an `errno` value.
func systemMessage(_ code: CInt) -> String {
  var buffer = [CChar](repeating: 0, count: 256)
  guard unsafe strerror_r(code, &buffer, buffer.count) == 0 else { return "error \(code)" }
  return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
}
