internal import CFileShims
internal import Synchronization
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
  /// The `errno` of a failed sync; 0 if none has failed.
  private let loss = Atomic<CInt>(0)

  /// Opens an existing file, and keeps other processes from opening it for as long as this object lives.
  ///
  /// On file systems without locks the file is opened without one.
  ///
  /// - Throws: `.notFound` if there is no such file, `.cannotCreate` if it may not be written, `.busy` if another
  ///   process holds it.
  public convenience init(_ path: String) throws(CheckpointError) {
    let descriptor = opened { unsafe open(path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) }
    guard descriptor >= 0 else {
      throw errno == ENOENT
        ? openingError(errno, "cannot be opened", path: path)
        : creationError(errno, "cannot be opened", path: path)
    }
    try self.init(locking: descriptor, path: path)
  }

  /// The same for a path below a directory held open. No component may be a symbolic link.
  ///
  /// - Throws: As ``init(_:)``; `.busy` also if the file was renamed or removed meanwhile.
  public convenience init(_ name: String, in directory: HeldDirectory) throws(CheckpointError) {
    let descriptor = try directory.openDescriptor(
      name, O_RDWR | O_APPEND | O_NONBLOCK, failing: "cannot be opened")
    try self.init(locking: descriptor, path: directory.path(of: name))
    try check(name, in: directory)
  }

  /// Creates a file with `bytes`, and gives it its name once it is locked and synced: no other process ever sees it
  /// in another state.
  ///
  /// - Parameters:
  ///   - name: The file's name in `directory`.
  ///   - directory: Where the file is made.
  ///   - bytes: What the file begins with.
  ///   - replacing: The existing file of that name, held by this process, that it replaces; `nil` if there must be
  ///     none.
  /// - Throws: `.busy` if another process was faster, `.cannotCreate` if nothing can be created; `.inputOutput`.
  public convenience init(
    creating name: String, in directory: HeldDirectory, bytes: [UInt8], replacing: AppendFile? = nil
  ) throws(CheckpointError) {
    let temporary = name + temporarySuffix
    try directory.removeFile(temporary)
    let descriptor = try directory.openDescriptor(
      temporary, O_RDWR | O_APPEND | O_CREAT | O_EXCL, failing: "cannot be created")
    try self.init(locking: descriptor, path: directory.path(of: name))
    try append(bytes)
    try synchronize()
    guard try directory.rename(temporary, to: name, replacing: replacing != nil) else {
      throw Self.busy(path)
    }
    withExtendedLifetime(replacing) {}
    try check(name, in: directory)
  }

  /// Takes over an open descriptor.
  private init(locking descriptor: CInt, path: String) throws(CheckpointError) {
    guard takeLock(of: descriptor) else {
      close(descriptor)
      throw Self.busy(path)
    }
    _ = try ownStatus(of: descriptor, path: path)
    self.path = path
    self.descriptor = descriptor
  }

  /// The error for a file that another process has locked.
  package static func busy(_ path: String) -> CheckpointError {
    CheckpointError(
      .busy, "another process is writing here", path: path, remedy: "wait for it, or stop it")
  }

  /// A lock on a file that has since been replaced excludes nobody.
  private func check(_ name: String, in directory: HeldDirectory) throws(CheckpointError) {
    let own = FileIdentity(try status(of: descriptor, path: path))
    guard try directory.entry(name)?.identity == own else { throw Self.busy(path) }
  }

  deinit { close(descriptor) }

  /// Removes everything from `byteCount` on.
  ///
  /// - Throws: `.inputOutput`.
  public func truncate(to byteCount: Int) throws(CheckpointError) {
    let failure = cfs_set_length(descriptor, Int64(byteCount))
    guard failure != 0 else { return }
    throw CheckpointError(.inputOutput, "cannot be truncated: \(systemMessage(failure))", path: path)
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
        continue
      }
      let code = count == 0 ? ENOSPC : errno
      guard code == EINTR else { throw writingError(code, path: path) }
    }
  }

  /// Makes sure that everything appended so far survives a power cut.
  ///
  /// - Throws: `.inputOutput`.
  public func synchronize() throws(CheckpointError) {
    let before = loss.load(ordering: .relaxed)
    let failure = before != 0 ? before : cfs_synchronize(descriptor)
    guard failure == 0 else {
      // The system may have dropped what it could not write, and may report success for the next attempt.
      loss.store(failure, ordering: .relaxed)
      throw syncingError(failure, path: path)
    }
  }
}

/// Locks an open file or directory against other processes; on file systems without locks this counts as success.
///
/// A child process shares its parent's open files, and so their locks, until it executes another program, even if the
/// parent has closed them: a lock is always retried for a moment, however short `patience` is.
///
/// - Returns: Whether nobody else holds it.
func takeLock(of descriptor: CInt, waiting patience: Duration = .zero) -> Bool {
  let end = ContinuousClock.now + max(patience, .seconds(2))
  while cfs_lock(descriptor) == EWOULDBLOCK {
    guard ContinuousClock.now < end else { return false }
    usleep(20_000)
  }
  return true
}
