internal import CFileShims
public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// A directory held open, with access by relative path to everything below it: `config.json`, `attention/config.json`.
///
/// Each step down starts from an open directory and never follows a symbolic link, so nothing outside the directory
/// is reached, whatever others do to names meanwhile. (Linux could do a whole path in one call, `openat2`; single
/// steps have the same effect and work everywhere.)
///
/// `Sendable`: the descriptor is immutable.
public final class HeldDirectory: Sendable {
  /// Where it is, for messages.
  public let path: String
  /// Its identity.
  public let identity: FileIdentity
  private let descriptor: CInt

  /// An entry.
  public struct Entry: Hashable, Sendable {
    /// The kind of entry; links are not followed.
    public enum Kind: Hashable, Sendable {
      case file, directory, link, other
    }

    /// What it is.
    public let kind: Kind
    /// Its size.
    public let bytes: Int
    /// The space it takes on the device; less than its size for a sparse file.
    public let allocatedBytes: Int
    /// The number of its hard links.
    public let names: Int
    /// Its identity.
    public let identity: FileIdentity
  }

  /// Opens a directory; that path may lead through symbolic links.
  ///
  /// - Returns: `nil` if nothing is there, or something other than a directory.
  /// - Throws: `.cannotCreate` if it is a directory that may not be opened.
  public static func open(_ path: String) throws(CheckpointError) -> HeldDirectory? {
    let descriptor = opened { Self.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
    guard descriptor < 0 else { return try HeldDirectory(descriptor, path: path) }
    guard errno != ENOENT, errno != ENOTDIR, errno != ELOOP else { return nil }
    throw creationError(errno, "cannot be opened", path: path)
  }

  private static func open(_ path: String, _ flags: CInt) -> CInt {
    #if canImport(Glibc)
    unsafe Glibc.open(path, flags)
    #else
    unsafe Darwin.open(path, flags)
    #endif
  }

  /// Takes over an open descriptor.
  private init(_ descriptor: CInt, path: String) throws(CheckpointError) {
    do throws(CheckpointError) {
      identity = FileIdentity(try status(of: descriptor, path: path))
    } catch {
      close(descriptor)
      throw error
    }
    self.path = path
    self.descriptor = descriptor
  }

  deinit { close(descriptor) }

  /// The path of something below it, for messages.
  public func path(of name: String) -> String { joinPath(path, name) }

  /// Keeps other processes from locking it for as long as this object lives.
  ///
  /// On file systems that cannot lock directories (NFS) this succeeds without a lock.
  ///
  /// - Parameter patience: How long to wait for another process that holds it.
  /// - Throws: `.busy` if another process holds it.
  public func lock(waiting patience: Duration = .zero) throws(CheckpointError) {
    guard takeLock(of: descriptor, waiting: patience) else { throw AppendFile.busy(path) }
  }

  /// Lets other processes lock it.
  public func unlock() { cfs_unlock(descriptor) }
}

// MARK: - Looking

extension HeldDirectory {
  /// The entry at a path below it; `nil` if there is none.
  ///
  /// - Throws: `.cannotCreate` if the path contains a symbolic link, `.inputOutput`.
  public func entry(_ name: String) throws(CheckpointError) -> Entry? {
    guard let (directory, last) = try step(towards: name) else { return nil }
    var status = stat()
    while unsafe fstatat(directory.descriptor, last, &status, AT_SYMLINK_NOFOLLOW) != 0 {
      if errno == EINTR { continue }
      if errno == ENOENT { return nil }
      throw CheckpointError(
        .inputOutput, "cannot be examined: \(systemMessage(errno))", path: path(of: name))
    }
    let kind: Entry.Kind =
      switch status.st_mode & S_IFMT {
      case S_IFREG: .file
      case S_IFDIR: .directory
      case S_IFLNK: .link
      default: .other
      }
    return Entry(
      kind: kind, bytes: Int(status.st_size), allocatedBytes: Int(status.st_blocks) * 512,
      names: Int(status.st_nlink), identity: FileIdentity(status))
  }

  /// The names in it, sorted, without `.` and `..`.
  ///
  /// - Throws: `.inputOutput`.
  public func names() throws(CheckpointError) -> [String] {
    let copy = unsafe cfs_open_at(descriptor, ".", O_RDONLY | O_DIRECTORY, 0)
    guard copy >= 0, let stream = unsafe fdopendir(copy) else {
      let code = copy < 0 ? -copy : errno
      if copy >= 0 { close(copy) }
      throw CheckpointError(.inputOutput, "cannot be listed: \(systemMessage(code))", path: path)
    }
    return try unsafe readNames(closing: stream, path: path)
  }

  /// A directory below it, held open; `nil` if nothing has that name.
  ///
  /// - Throws: `.cannotCreate` if something else, a symbolic link for instance, is in the way.
  public func directory(_ name: String) throws(CheckpointError) -> HeldDirectory? {
    var current = self
    for component in try components(of: name) {
      let next = unsafe cfs_open_at(current.descriptor, component, O_RDONLY | O_DIRECTORY, 0)
      guard next >= 0 else {
        if next == -ENOENT { return nil }
        throw current.obstacle(component, -next, "cannot be opened")
      }
      current = try HeldDirectory(next, path: current.path(of: component))
    }
    return current
  }

  /// The free space of its file system; `nil` if unknown.
  public var freeSpace: Int? {
    var status = statvfs()
    guard unsafe fstatvfs(descriptor, &status) == 0 else { return nil }
    return Int(
      clamping: UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).partialValue)
  }

  /// The components of a relative path.
  private func components(of name: String) throws(CheckpointError) -> [String] {
    let components = name.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard !components.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." || $0.utf8.contains(0) }) else {
      throw CheckpointError(
        .cannotCreate, "the name '\(name.printable)' leads out of this directory", path: path)
    }
    return components
  }

  /// The directory of a path's last component; `nil` if it does not exist.
  private func step(towards name: String) throws(CheckpointError) -> (HeldDirectory, String)? {
    let components = try components(of: name)
    guard components.count > 1 else { return (self, name) }
    guard let parent = try directory(components.dropLast().joined(separator: "/")) else { return nil }
    return (parent, components[components.count - 1])
  }

  /// The same, if it must exist.
  private func parent(of name: String) throws(CheckpointError) -> (HeldDirectory, String) {
    guard let step = try step(towards: name) else {
      throw CheckpointError(.cannotCreate, "there is no directory to create it in", path: path(of: name))
    }
    return step
  }

  /// The error for a name that cannot be opened, saying what is in the way if that is the reason.
  private func obstacle(_ name: String, _ code: CInt, _ failure: String) -> CheckpointError {
    let kind = try? entry(name)?.kind
    guard kind == .link else { return creationError(code, failure, path: path(of: name)) }
    return CheckpointError(
      .cannotCreate, "is a symbolic link, which is never written through", path: path(of: name),
      remedy: "remove it, or choose another output")
  }

  /// Opens a file below it.
  ///
  /// - Throws: `.notFound` if it is not there, `.cannotCreate` and `.inputOutput` as `errno` tells.
  func openDescriptor(_ name: String, _ flags: CInt, failing: String) throws(CheckpointError) -> CInt {
    let (directory, last) = try parent(of: name)
    let descriptor = unsafe cfs_open_at(directory.descriptor, last, flags, 0o644)
    guard descriptor < 0 else { return descriptor }
    guard descriptor != -ENOENT || flags & O_CREAT != 0 else {
      throw CheckpointError(.notFound, "\(failing): \(systemMessage(ENOENT))", path: path(of: name))
    }
    throw directory.obstacle(last, -descriptor, failing)
  }
}

// MARK: - Changing

extension HeldDirectory {
  /// Creates a directory below it; does nothing if it exists.
  ///
  /// - Returns: Whether it was created.
  /// - Throws: `.cannotCreate` if something else is there, `.inputOutput` for a full disk.
  @discardableResult
  public func createDirectory(_ name: String) throws(CheckpointError) -> Bool {
    let (directory, last) = try parent(of: name)
    if unsafe mkdirat(directory.descriptor, last, 0o755) == 0 { return true }
    let code = errno
    if code == EEXIST, try entry(name)?.kind == .directory { return false }
    throw directory.obstacle(last, code, "the directory cannot be created")
  }

  /// Renames something below it, atomically.
  ///
  /// - Returns: `false` if something already has that name and must not be replaced.
  /// - Throws: `.inputOutput`.
  @discardableResult
  public func rename(
    _ from: String, to: String, in target: HeldDirectory? = nil, replacing: Bool
  ) throws(CheckpointError) -> Bool {
    let (source, old) = try parent(of: from)
    let (destination, new) = try (target ?? self).parent(of: to)
    let failure: CInt
    if replacing {
      failure = unsafe renameat(source.descriptor, old, destination.descriptor, new) == 0 ? 0 : errno
    } else {
      failure = unsafe cfs_rename_exclusive(source.descriptor, old, destination.descriptor, new)
      if failure == EEXIST { return false }
    }
    guard failure == 0 else {
      throw CheckpointError(
        .inputOutput, "cannot be renamed to \((target ?? self).path(of: to)): \(systemMessage(failure))",
        path: path(of: from))
    }
    return true
  }

  /// Removes a file, or a symbolic link itself; does nothing if it does not exist.
  ///
  /// - Throws: `.inputOutput`.
  public func removeFile(_ name: String) throws(CheckpointError) {
    guard let (directory, last) = try step(towards: name),
      unsafe unlinkat(directory.descriptor, last, 0) != 0, errno != ENOENT
    else { return }
    throw CheckpointError(.inputOutput, "cannot be removed: \(systemMessage(errno))", path: path(of: name))
  }

  /// Removes an empty directory; does nothing if it does not exist or is not empty.
  ///
  /// - Returns: Whether nothing has that name any more.
  /// - Throws: `.inputOutput`.
  @discardableResult
  public func removeDirectoryIfEmpty(_ name: String) throws(CheckpointError) -> Bool {
    guard let (directory, last) = try step(towards: name) else { return true }
    guard unsafe unlinkat(directory.descriptor, last, AT_REMOVEDIR) != 0, errno != ENOENT else { return true }
    let code = errno
    // These mean that it is not empty or not a directory; anything else is a failure.
    guard code == ENOTEMPTY || code == EEXIST || code == ENOTDIR else {
      throw CheckpointError(.inputOutput, "cannot be removed: \(systemMessage(code))", path: path(of: name))
    }
    return false
  }

  /// Makes the names in it survive a power cut, after files were created or renamed.
  ///
  /// - Throws: `.inputOutput`.
  public func synchronize() throws(CheckpointError) {
    let failure = cfs_synchronize(descriptor)
    // Some file systems cannot sync directories and return EINVAL; they promise nothing to begin with.
    guard failure == 0 || failure == EINVAL else {
      throw syncingError(failure, path: path)
    }
  }

  /// Writes a small file atomically: to a temporary name beside it, synced, then renamed into place.
  ///
  /// - Parameters:
  ///   - bytes: The whole content.
  ///   - name: The file's path below this directory.
  ///   - replacing: Whether to replace an existing file; a symbolic link is then replaced itself, not its target.
  /// - Throws: `.cannotCreate`, `.inputOutput`; the latter also if the name is taken.
  public func writeAtomically(
    _ bytes: [UInt8], to name: String, replacing: Bool
  ) throws(CheckpointError) {
    let temporary = name + temporarySuffix
    try removeFile(temporary)
    let file = try OutputFile(temporary, in: self, byteCount: bytes.count)
    try file.write(bytes, at: 0)
    try file.synchronize()
    try give(temporary, name, replacing: replacing)
  }

  /// Renames a file to a name that should be free.
  ///
  /// - Throws: `.inputOutput`, also if the name has been taken meanwhile.
  public func give(_ from: String, _ name: String, replacing: Bool = false) throws(CheckpointError) {
    guard try !rename(from, to: name, replacing: replacing) else { return }
    throw CheckpointError(
      .inputOutput, "something with that name already exists", path: path(of: name), remedy: "remove it")
  }
}

/// The suffix of a small file's name until it is complete.
package let temporarySuffix = ".writing"

/// The error for something that cannot be created: a full or failing disk is not an obstacle that the user put
/// there.
func creationError(_ code: CInt, _ message: String, path: String) -> CheckpointError {
  CheckpointError(
    isFault(code) ? .inputOutput : .cannotCreate, "\(message): \(systemMessage(code))", path: path,
    remedy: remedy(for: code))
}

/// The error for bytes that could not be written.
func writingError(_ code: CInt, path: String, offset: Int? = nil) -> CheckpointError {
  CheckpointError(
    .inputOutput, "writing failed: \(systemMessage(code))", path: path, offset: offset,
    remedy: remedy(for: code))
}

/// The error for bytes that may not have reached the device.
func syncingError(_ code: CInt, path: String) -> CheckpointError {
  CheckpointError(
    .inputOutput, "cannot be synced: \(systemMessage(code))", path: path, remedy: remedy(for: code))
}

/// What to do about a call that failed because of a limit; `nil` for any other reason.
func remedy(for code: CInt) -> String? {
  switch code {
  case ENOSPC, EDQUOT: "free some space and run the command again"
  case EFBIG: "raise the file size limit (ulimit -f)"
  case EMFILE: "raise the limit on open files (ulimit -n)"
  default: nil
  }
}

/// The error for something that cannot be opened for reading: a failing device says nothing about what exists there.
func openingError(_ code: CInt, _ message: String, path: String) -> CheckpointError {
  CheckpointError(
    isFault(code) ? .inputOutput : .notFound, "\(message): \(systemMessage(code))", path: path,
    remedy: remedy(for: code))
}

/// Whether an `errno` means that the system failed, rather than that the user named something wrong.
private func isFault(_ code: CInt) -> Bool {
  [ENOSPC, EDQUOT, EFBIG, EIO, EINTR, ENFILE, EMFILE, ENOMEM, ESTALE, ETIMEDOUT].contains(code)
}
