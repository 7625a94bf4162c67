internal import CFileShims
public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// A file that only grows, held by one process at a time: a journal.
///
/// `Sendable`: the descriptor is immutable. Appending is for one caller at a time.
public final class AppendFile: Sendable {
  /// Where the file is.
  public let path: String
  private let descriptor: CInt

  /// Opens a file that is there, and keeps other processes from doing the same for as long as this object lives.
  ///
  /// File systems without locks are taken at their word: the file is then opened all the same.
  ///
  /// - Throws: `.notFound` if there is no such file, `.cannotCreate` if it may not be written or another process
  ///   holds it.
  public init(_ path: String) throws(CheckpointError) {
    let descriptor = unsafe open(path, O_RDWR | O_APPEND | O_CLOEXEC)
    guard descriptor >= 0 else {
      throw CheckpointError(
        errno == ENOENT ? .notFound : .cannotCreate, "cannot be opened: \(systemMessage(errno))", path: path)
    }
    let failure = cfs_lock(descriptor)
    guard failure != EWOULDBLOCK else {
      close(descriptor)
      throw CheckpointError(
        .cannotCreate, "another process is writing here", path: path, remedy: "wait for it, or stop it")
    }
    self.path = path
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  /// Removes everything from `byteCount` on.
  ///
  /// - Throws: `.inputOutput`.
  public func truncate(to byteCount: Int) throws(CheckpointError) {
    guard ftruncate(descriptor, off_t(byteCount)) != 0 else { return }
    throw CheckpointError(.inputOutput, "cannot be truncated: \(systemMessage(errno))", path: path)
  }

  /// Adds bytes at the end.
  ///
  /// - Throws: `.inputOutput`; some of the bytes may then be there.
  public func append(_ bytes: [UInt8]) throws(CheckpointError) {
    var done = 0
    while done < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { source in
        unsafe write(descriptor, source.baseAddress.unsafelyUnwrapped + done, source.count - done)
      }
      if count > 0 {
        done += count
      } else if count == 0 || errno != EINTR {
        throw CheckpointError(
          .inputOutput, "writing failed: \(systemMessage(errno))", path: path,
          remedy: errno == ENOSPC ? "free some space and run the command again" : nil)
      }
    }
  }

  /// Makes sure that everything appended so far survives a power cut.
  ///
  /// - Throws: `.inputOutput`.
  public func synchronize() throws(CheckpointError) {
    let failure = cfs_synchronize(descriptor)
    guard failure == 0 else {
      throw CheckpointError(.inputOutput, "cannot be synced: \(systemMessage(failure))", path: path)
    }
  }
}
