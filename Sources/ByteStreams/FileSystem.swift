internal import CFileShims
public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// The few file system queries and changes that a conversion needs, with errors that name the path.
public enum FileSystem {
  /// What exists at a path.
  public enum Kind: Hashable, Sendable {
    case file, directory, other
  }

  /// What exists at a path, following symbolic links; `nil` if nothing does.
  ///
  /// - Throws: `.notFound` if access is denied, `.inputOutput` if the device fails: neither means that nothing exists
  ///   there.
  public static func kind(of path: String) throws(CheckpointError) -> Kind? {
    guard let status = try status(of: path) else { return nil }
    switch status.st_mode & S_IFMT {
    case S_IFREG: return .file
    case S_IFDIR: return .directory
    default: return .other
    }
  }

  /// The size of a file, following symbolic links; `nil` if there is no such file.
  ///
  /// - Throws: As ``kind(of:)``.
  public static func size(of path: String) throws(CheckpointError) -> Int? {
    try status(of: path).map { Int($0.st_size) }
  }

  private static func status(of path: String, followingLinks: Bool = true) throws(CheckpointError) -> stat? {
    var status = stat()
    while true {
      let result = followingLinks ? unsafe stat(path, &status) : unsafe lstat(path, &status)
      if result == 0 { return status }
      switch errno {
      case EINTR: continue
      // A dangling or circular link, or a name that no file can have.
      case ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG: return nil
      default: throw openingError(errno, "cannot be examined", path: path)
      }
    }
  }

  /// The names in a directory, sorted, without `.` and `..`.
  ///
  /// - Throws: `.notFound` if it cannot be listed, `.inputOutput` if its device fails.
  public static func names(in directory: String) throws(CheckpointError) -> [String] {
    guard let stream = unsafe opendir(directory) else {
      throw openingError(errno, "cannot be listed", path: directory)
    }
    return try unsafe readNames(closing: stream, path: directory)
  }

  /// The identity of what is at a path, independent of its names; symbolic links are followed. `nil` if nothing
  /// exists there.
  ///
  /// - Throws: As ``kind(of:)``.
  public static func identity(of path: String) throws(CheckpointError) -> FileIdentity? {
    try status(of: path).map(FileIdentity.init)
  }

  /// Whether anything has this name, including a dangling symbolic link.
  ///
  /// - Throws: As ``kind(of:)``.
  public static func isTaken(_ path: String) throws(CheckpointError) -> Bool {
    try status(of: path, followingLinks: false) != nil
  }

  /// The identity of what is at a path, with all symbolic links followed, and of every directory above it up to
  /// the root; empty if nothing exists there.
  ///
  /// - Throws: As ``kind(of:)``.
  /// - Complexity: O(*n*) system calls for a path of *n* components.
  public static func ancestry(of path: String) throws(CheckpointError) -> [FileIdentity] {
    guard let resolved = unsafe realpath(path, nil) else {
      let code = errno
      guard try kind(of: path) == nil else { throw openingError(code, "cannot be examined", path: path) }
      return []
    }
    defer { unsafe free(resolved) }
    var rest = unsafe String(cString: resolved)[...]
    var result: [FileIdentity] = []
    while true {
      if let identity = try identity(of: rest.isEmpty ? "/" : String(rest)) { result.append(identity) }
      guard let slash = rest.lastIndex(of: "/") else { return result }
      rest = rest[..<slash]
    }
  }

  /// The absolute path; links are not resolved.
  public static func absolute(_ path: String) -> String {
    guard !path.hasPrefix("/"), let directory = unsafe getcwd(nil, 0) else { return path }
    defer { unsafe free(directory) }
    return unsafe "\(String(cString: directory))/\(path)"
  }

  /// Creates a directory; does nothing if it exists.
  ///
  /// - Throws: `.cannotCreate`; `.inputOutput` for a full disk.
  public static func createDirectory(_ path: String) throws(CheckpointError) {
    guard unsafe mkdir(path, 0o755) != 0 else { return }
    let code = errno
    if code == EEXIST, try kind(of: path) == .directory { return }
    throw creationError(code, "the directory cannot be created", path: path)
  }

  /// Renames a file within a file system, atomically replacing any existing one.
  ///
  /// - Throws: `.inputOutput`.
  public static func rename(_ from: String, to: String) throws(CheckpointError) {
    guard posixRename(from, to) != 0 else { return }
    throw CheckpointError(.inputOutput, "cannot be renamed to \(to): \(systemMessage(errno))", path: from)
  }

  private static func posixRename(_ from: String, _ to: String) -> CInt {
    #if canImport(Glibc)
    return unsafe Glibc.rename(from, to)
    #else
    return unsafe Darwin.rename(from, to)
    #endif
  }

  /// Removes a file; does nothing if it does not exist.
  ///
  /// - Throws: `.inputOutput`.
  public static func removeFile(_ path: String) throws(CheckpointError) {
    guard unsafe unlink(path) != 0, errno != ENOENT else { return }
    throw CheckpointError(.inputOutput, "cannot be removed: \(systemMessage(errno))", path: path)
  }

  /// Removes an empty directory; does nothing if it does not exist or is not empty.
  public static func removeDirectoryIfEmpty(_ path: String) { unsafe rmdir(path) }

  /// Makes the names in a directory survive a power cut, after files in it were created or renamed.
  ///
  /// - Throws: `.inputOutput`.
  public static func synchronizeDirectory(_ path: String) throws(CheckpointError) {
    let descriptor = opened { unsafe open(path, O_RDONLY | O_CLOEXEC) }
    guard descriptor >= 0 else {
      throw CheckpointError(.inputOutput, "cannot be opened: \(systemMessage(errno))", path: path)
    }
    defer { close(descriptor) }
    let failure = cfs_synchronize(descriptor)
    // Some file systems cannot sync directories and return EINVAL; they promise nothing to begin with.
    guard failure == 0 || failure == EINVAL else {
      throw syncingError(failure, path: path)
    }
  }

  /// Raises the open file limit to the maximum allowed: a large model in small shards needs thousands.
  public static func raiseOpenFileLimit() { cfs_raise_open_file_limit() }

  /// The free space of the file system that holds `path`; `nil` if unknown.
  public static func freeSpace(at path: String) -> Int? {
    var status = statvfs()
    guard unsafe statvfs(path, &status) == 0 else { return nil }
    return Int(
      clamping: UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).partialValue)
  }

  /// Writes a small file atomically: to a temporary name beside it, synced, then renamed into place.
  ///
  /// - Throws: `.cannotCreate`, `.inputOutput`.
  public static func writeAtomically(_ bytes: RawSpan, to path: String) throws(CheckpointError) {
    let temporary = path + ".writing"
    try removeFile(temporary)
    let file = try OutputFile(temporary, byteCount: bytes.byteCount)
    try file.write(bytes, at: 0)
    try file.synchronize()
    try rename(temporary, to: path)
  }
}

/// The identity of a file or directory, whatever names and links lead to it.
public struct FileIdentity: Hashable, Sendable {
  /// The file system.
  public let device: UInt64
  /// Its number there.
  public let inode: UInt64

  init(_ status: stat) {
    device = UInt64(truncatingIfNeeded: status.st_dev)
    inode = UInt64(truncatingIfNeeded: status.st_ino)
  }
}

#if canImport(Glibc)
typealias DirectoryStream = OpaquePointer
#else
typealias DirectoryStream = UnsafeMutablePointer<DIR>
#endif

/// The remaining names in an open directory, sorted, without `.` and `..`.
///
/// - Throws: `.inputOutput` if reading fails before the last.
func readNames(closing stream: DirectoryStream, path: String) throws(CheckpointError) -> [String] {
  defer { unsafe closedir(stream) }
  var names: [String] = []
  while true {
    // Only `errno` distinguishes a failure from the end.
    errno = 0
    guard let entry = unsafe readdir(stream) else {
      guard errno == 0 else {
        throw CheckpointError(.inputOutput, "cannot be listed: \(systemMessage(errno))", path: path)
      }
      break
    }
    let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { start in
      unsafe start.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: start.pointee)) {
        unsafe String(cString: $0)
      }
    }
    if name != "." && name != ".." { names.append(name) }
  }
  return names.sorted()
}
