internal import ByteStreams
internal import Checkpoint
public import TensorFormats

/// Where a bundle is written: a name in an open directory.
public struct SignatureFile: Sendable {
  /// Its path, as the user gave it.
  public let path: String
  private let directory: HeldDirectory
  private let name: String
  private let replaces: Bool

  /// Checks the path before anything is computed.
  ///
  /// - Parameter overwriting: Whether an earlier bundle may be replaced.
  /// - Throws: `.cannotCreate` if the path is taken: by anything without `overwriting`, by anything but a bundle with
  ///   it; `.notFound` if there is no such directory.
  public init(_ path: String, overwriting: Bool) throws(CheckpointError) {
    self.path = path
    let (parent, name) = splitPath(path)
    guard let directory = try HeldDirectory.open(parent) else {
      throw CheckpointError(.notFound, "there is no such directory", path: parent)
    }
    (self.directory, self.name) = (directory, name)
    guard let entry = try directory.entry(name) else {
      replaces = false
      return
    }
    guard overwriting else {
      throw CheckpointError(
        .cannotCreate, "already exists", path: path,
        remedy: "choose another name with --output, or give --overwrite to replace a signature")
    }
    guard entry.kind == .file, entry.bytes <= SigstoreBundle.largestFile,
      try Self.isBundle(name, in: directory)
    else {
      throw CheckpointError(
        .cannotCreate, "is not a signature", path: path,
        remedy: "move it away yourself, or choose another name")
    }
    replaces = true
  }

  /// - Throws: `.inputOutput`: a device failure says nothing about what is there.
  private static func isBundle(_ name: String, in directory: HeldDirectory) throws(CheckpointError) -> Bool {
    do throws(CheckpointError) {
      let file = try InputFile(name, in: directory)
      _ = try SigstoreBundle(parsing: file.readBytes(0..<file.byteCount))
      return true
    } catch {
      guard error.code != .inputOutput else { throw error }
      return false
    }
  }

  /// Its name in a model's directory; `nil` if it is elsewhere.
  ///
  /// - Throws: `.invalidRequest` for a file in a subfolder of that directory.
  func name(in model: SignedModel) throws(CheckpointError) -> String? {
    guard model.file == nil, let root = model.store.directory,
      let identity = try FileSystem.identity(of: root)
    else { return nil }
    if directory.identity == identity { return name }
    guard try !FileSystem.ancestry(of: directory.path).contains(identity) else {
      throw CheckpointError(
        .invalidRequest, "is in a subfolder of the model", path: path,
        remedy: "put it next to the model's own files, or outside the model")
    }
    return nil
  }

  /// Whether both refer to the same file.
  func isSame(as other: SignatureFile) -> Bool {
    directory.identity == other.directory.identity && name == other.name
  }

  /// Writes the bundle atomically.
  ///
  /// - Throws: `.cannotCreate`, `.inputOutput`.
  func write(_ text: [UInt8]) throws(CheckpointError) {
    try directory.writeAtomically(text, to: name, replacing: replaces)
    try directory.synchronize()
  }
}
