package import ByteStreams
internal import Checkpoint
package import TensorFormats

/// OUTPUT as the user named it: an existing directory, held open, or the place for a new one.
///
/// The path is resolved once. From then on everything uses the open directory.
package struct OutputPlace {
  /// The user's path, without trailing slashes.
  package let path: String
  /// The directory, if it exists.
  package let directory: HeldDirectory?
  /// The directory to create it in, if it does not.
  private let parent: HeldDirectory?

  /// Inspects a path without touching anything.
  ///
  /// - Throws: `.cannotCreate` if something else is there, or there is no parent directory.
  package init(_ named: String) throws(CheckpointError) {
    var path = named
    while path.count > 1, path.hasSuffix("/") { path.removeLast() }
    self.path = path
    let (folder, name) = splitPath(path)
    while true {
      if let directory = try HeldDirectory.open(path) {
        (self.directory, parent) = (directory, nil)
        return
      }
      guard let parent = try HeldDirectory.open(folder) else {
        throw CheckpointError(.cannotCreate, "there is no directory to create it in", path: path)
      }
      guard let entry = try parent.entry(name) else {
        (directory, self.parent) = (nil, parent)
        return
      }
      // Other shares start at the same time: one of them may have just created it.
      let kind = entry.kind == .directory ? .directory : try FileSystem.kind(of: path)
      guard kind != .directory else { continue }
      throw CheckpointError(
        .cannotCreate,
        kind == nil ? "is a dangling symbolic link" : "already exists, and is not a directory",
        path: path,
        remedy: "choose another output")
    }
  }

  /// The directory itself (if it exists) and all its ancestors.
  ///
  /// - Throws: As `FileSystem.kind(of:)`.
  package func ancestry() throws(CheckpointError) -> [FileIdentity] {
    try FileSystem.ancestry(of: directory == nil ? splitPath(path).directory : path)
  }

  /// The directory, locked, and created if necessary.
  ///
  /// - Parameters:
  ///   - bytes: The space that a new one will need.
  ///   - patience: How long to wait for another process.
  /// - Throws: `.busy` if another process is writing there, `.inputOutput` without room.
  package func acquire(bytes: Int, waiting patience: Duration = .zero) throws(CheckpointError)
    -> HeldDirectory
  {
    let acquired: HeldDirectory
    if let directory {
      acquired = directory
    } else {
      guard let parent else { preconditionFailure("no parent for the directory") }
      try checkRoom(for: bytes, in: parent.freeSpace, path: path)
      let name = splitPath(path).name
      try parent.createDirectory(name)
      try parent.synchronize()
      guard let made = try parent.directory(name) else { throw AppendFile.busy(path) }
      acquired = made
    }
    try acquired.lock(waiting: patience)
    // A lock on a directory that has since been replaced excludes nobody.
    guard try FileSystem.identity(of: path) == acquired.identity else { throw AppendFile.busy(path) }
    return acquired
  }
}

/// - Throws: `.inputOutput` if there is less room than needed.
package func checkRoom(for needed: Int, in free: Int?, path: String) throws(CheckpointError) {
  guard let free, free < needed else { return }
  throw CheckpointError(
    .inputOutput, "\(needed) bytes are needed, but only \(free) are free", path: path,
    remedy: "free \(needed - free) bytes or choose another disk")
}
