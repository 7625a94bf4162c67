internal import ByteStreams
internal import Checkpoint
public import TensorFormats

/// Where a bundle is written: a name in a directory that is held open.
public struct SignatureFile: Sendable {
  /// Its path, as the user gave it.
  public let path: String
  private let directory: HeldDirectory
  private let name: String
  private let replaces: Bool

  /// Looks at the place, before anything is computed.
  ///
  /// - Parameter overwriting: Whether an earlier bundle may be replaced.
  /// - Throws: `.cannotCreate` if something is in the way: without `overwriting` whatever it is, with it all but a bundle;
  ///   `.notFound` if there is no such directory.
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
        .cannotCreate, "exists already", path: path,
        remedy: "choose another name with --output, or give --overwrite to replace a signature")
    }
    guard entry.kind == .file, entry.bytes <= SigstoreBundle.largestFile,
      try Self.isBundle(name, in: directory)
    else {
      throw CheckpointError(
        .cannotCreate, "is no signature", path: path,
        remedy: "move it away yourself, or choose another name")
    }
    replaces = true
  }

  /// - Throws: `.inputOutput`: that a device fails says nothing about what is there.
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

  /// Its name below a model's directory; `nil` if it lies elsewhere.
  ///
  /// - Throws: `.invalidRequest` for one in a folder below that directory.
  func name(in model: SignedModel) throws(CheckpointError) -> String? {
    guard model.file == nil, let root = model.store.directory,
      let identity = try FileSystem.identity(of: root)
    else { return nil }
    if directory.identity == identity { return name }
    guard try !FileSystem.ancestry(of: directory.path).contains(identity) else {
      throw CheckpointError(
        .invalidRequest, "lies in a folder of the model", path: path,
        remedy: "put it beside the model's own files, or elsewhere")
    }
    return nil
  }

  /// Whether both are one place.
  func isSame(as other: SignatureFile) -> Bool {
    directory.identity == other.directory.identity && name == other.name
  }

  /// Writes the bundle: it is there whole or not at all.
  ///
  /// - Throws: `.cannotCreate`, `.inputOutput`.
  func write(_ text: [UInt8]) throws(CheckpointError) {
    try directory.writeAtomically(text, to: name, replacing: replaces)
    try directory.synchronize()
  }
}
