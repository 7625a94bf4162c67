package import ByteStreams
internal import Checkpoint
package import TensorFormats

/// OUTPUT as the user named it: a directory that is there and held open, or the place for one.
///
/// The path is followed once. From then on everything goes by the open directory.
package struct OutputPlace {
  /// What the user named, without slashes at its end.
  package let path: String
  /// The directory, if it is there.
  package let directory: HeldDirectory?
  /// The directory that it will be made in, if it is not.
  private let parent: HeldDirectory?

  /// Looks at a path and touches nothing.
  ///
  /// - Throws: `.cannotCreate` if something else is there, or nothing to make it in.
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
      // Other shares of the conversion start at the same time: one of them may have made it a moment ago.
      let kind = entry.kind == .directory ? .directory : try FileSystem.kind(of: path)
      guard kind != .directory else { continue }
      throw CheckpointError(
        .cannotCreate,
        kind == nil ? "is a symbolic link that leads nowhere" : "exists already, and is no directory",
        path: path,
        remedy: "choose another output")
    }
  }

  /// The directory itself (if it is there) and all that it lies in.
  ///
  /// - Throws: As `FileSystem.kind(of:)`.
  package func ancestry() throws(CheckpointError) -> [FileIdentity] {
    try FileSystem.ancestry(of: directory == nil ? splitPath(path).directory : path)
  }

  /// The directory, locked, made if it is not there.
  ///
  /// - Parameters:
  ///   - bytes: The room that a new one will need.
  ///   - patience: How long to wait for another process.
  /// - Throws: `.busy` if another process is writing there, `.inputOutput` without room.
  package func acquire(bytes: Int, waiting patience: Duration = .zero) throws(CheckpointError)
    -> HeldDirectory
  {
    let acquired: HeldDirectory
    if let directory {
      acquired = directory
    } else {
      guard let parent else { preconditionFailure("nowhere to make a directory") }
      try checkRoom(for: bytes, in: parent.freeSpace, path: path)
      let name = splitPath(path).name
      try parent.createDirectory(name)
      try parent.synchronize()
      guard let made = try parent.directory(name) else { throw AppendFile.busy(path) }
      acquired = made
    }
    try acquired.lock(waiting: patience)
    // A lock on a directory that has been replaced meanwhile keeps nobody away.
    guard try FileSystem.identity(of: path) == acquired.identity else { throw AppendFile.busy(path) }
    return acquired
  }
}

/// - Throws: `.inputOutput` if there is less room than needed.
package func checkRoom(for needed: Int, in free: Int?, path: String) throws(CheckpointError) {
  guard let free, free < needed else { return }
  throw CheckpointError(
    .inputOutput, "\(needed) bytes are needed, \(free) are free", path: path,
    remedy: "free \(needed - free) bytes or choose another disk")
}
