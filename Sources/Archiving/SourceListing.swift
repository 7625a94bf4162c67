internal import Archives
internal import ByteStreams
internal import Checkpoint
internal import TensorFormats

/// Every file of a directory to archive.
struct SourceListing {
  struct File: Hashable {
    /// Below the directory.
    let path: String
    let bytes: Int

    /// Whether it is put into the container, by its name.
    var isWeights: Bool { path.hasSuffix(".safetensors") || path.hasSuffix(".gguf") }
    /// Its path in the archive.
    var stored: String { isWeights ? path + ArchiveManifest.suffix : path }
  }

  let root: String
  /// Sorted by path.
  private(set) var files: [File] = []
  /// The directories without files, sorted.
  private(set) var emptyDirectories: [String] = []

  var bytes: Int { files.reduce(0) { $0 + $1.bytes } }

  /// The maximum number of files listed.
  private static let mostFiles = 1 << 20

  /// Lists a directory recursively. Symbolic links are followed, as snapshots in the Hugging Face cache require.
  ///
  /// - Throws: `.notFound` if it is not a directory or a link is dangling; `.unfinished`, `.unsupported` and
  ///   `.invalidRequest` for what cannot be archived.
  init(_ path: String) throws(CheckpointError) {
    root = path
    guard try FileSystem.kind(of: path) == .directory else {
      throw CheckpointError(
        .notFound, "there is no such directory", path: path,
        remedy: try FileSystem.kind(of: path) == .file ? "name the directory that the file is in" : nil)
    }
    let names = try FileSystem.names(in: path)
    if names.contains(ArchiveManifest.fileName) {
      throw CheckpointError(
        .invalidRequest, "is already an archive: it has \(ArchiveManifest.fileName)", path: path,
        remedy: "copy it as it is")
    }
    if names.contains(OutputMarkers.journal), !names.contains(OutputMarkers.manifest) {
      throw CheckpointError(
        .unfinished, "this is the unfinished output of an interrupted command", path: path,
        remedy: "finish it with --resume first")
    }
    if names.contains("snapshots"), names.contains("blobs") || names.contains("refs") {
      throw CheckpointError(
        .invalidRequest,
        "this is the root of a model in the Hugging Face cache, which holds every file twice",
        path: path, remedy: "name a directory in \(path)/snapshots")
    }
    try list("", ancestors: [])
    files.sort { $0.path < $1.path }
    emptyDirectories.sort()
    let stored = Dictionary(grouping: files, by: \.stored)
    if let clash = stored.values.first(where: { $0.count > 1 }) {
      throw CheckpointError(
        .unsupported,
        "\(clash[0].path.printable) and \(clash[1].path.printable) would have the same name in the archive",
        path: path, remedy: "move one of them away")
    }
  }

  private mutating func list(_ directory: String, ancestors: [FileIdentity]) throws(CheckpointError) {
    let place = directory.isEmpty ? root : "\(root)/\(directory)"
    guard let identity = try FileSystem.identity(of: place), !ancestors.contains(identity) else {
      throw CheckpointError(
        .unsupported, "is a link to a directory that contains it", path: place, remedy: "remove it")
    }
    let names = try FileSystem.names(in: place)
    if names.isEmpty, !directory.isEmpty { emptyDirectories.append(directory) }
    for name in names {
      let relative = directory.isEmpty ? name : "\(directory)/\(name)"
      let path = "\(root)/\(relative)"
      guard ArchiveManifest.isPlain(relative), !name.hasSuffix(OutputMarkers.unfinishedSuffix),
        relative != OutputMarkers.journal
      else {
        throw CheckpointError(
          .unsupported, "has a name that an archive cannot hold", path: path,
          remedy: "rename it or move it away")
      }
      switch try FileSystem.kind(of: path) {
      case .directory: try list(relative, ancestors: ancestors + [identity])
      case .file:
        guard files.count < Self.mostFiles, let bytes = try FileSystem.size(of: path) else {
          throw CheckpointError(.unsupported, "there are more than \(Self.mostFiles) files", path: root)
        }
        files.append(File(path: relative, bytes: bytes))
      case .other:
        throw CheckpointError(
          .unsupported, "is a pipe, a socket or a device", path: path, remedy: "move it away")
      case nil:
        throw CheckpointError(
          .notFound, "is a dangling link", path: path, remedy: "remove it, or fetch the file")
      }
    }
  }
}
