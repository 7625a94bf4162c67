internal import ByteStreams
public import TensorFormats

extension Checkpoint {
  /// Opens some parts of a partition set as one checkpoint; the others are not opened.
  ///
  /// - Parameters:
  ///   - path: The set's directory.
  ///   - names: The directories of the parts.
  /// - Throws: `.notFound` for a name that is not a part; otherwise as ``open(_:)``.
  public static func open(_ path: String, parts names: [String]) throws(CheckpointError) -> Checkpoint {
    let set = try openPartitionSet(DirectoryListing(DirectoryStore(path)), parts: Set(names))
    let found = Set((set?.parts ?? []).map(\.name))
    if let missing = names.first(where: { !found.contains($0) }) {
      throw CheckpointError(
        .notFound, "there is no such part of a partition set", path: joinPath(path, missing))
    }
    guard let set else { throw CheckpointError(.invalidRequest, "no parts are named", path: path) }
    return set
  }

  /// Opens a directory whose subdirectories are the parts of one model, as `step3-convert --partition` writes them;
  /// `nil` if it is not such a directory.
  ///
  /// - Parameter wanted: The parts to open; all of them if `nil`.
  static func openPartitionSet(
    _ listing: DirectoryListing, parts wanted: Set<String>? = nil
  ) throws(CheckpointError) -> Checkpoint? {
    var parts: [Part] = []
    for name in listing.names where wanted?.contains(name) ?? true {
      guard try listing.store.kind(of: name) == .directory else { continue }
      let folder = listing.store.folder(name)
      guard let configuration = try ConfigurationDocument.read(in: folder) else { continue }
      // A part whose configuration cannot be read must not be silently left out.
      if let fault = configuration.fault, isNamedLikePart(name) { throw fault }
      guard configuration.isPart else { continue }
      parts.append(Part(name: name, checkpoint: try open(in: folder)))
    }
    guard let first = parts.first else { return nil }
    var files: [File] = []
    var tensors: [Tensor] = []
    var warnings: [String] = []
    for part in parts {
      let base = files.count
      files += part.checkpoint.files.map {
        File(
          name: joinPath(part.name, $0.name), source: $0.source, dataOffset: $0.dataOffset,
          safetensorsMetadata: $0.safetensorsMetadata, ggufMetadata: $0.ggufMetadata, byteOrder: $0.byteOrder)
      }
      tensors += part.checkpoint.tensors.map { $0.shiftingFile(by: base) }
      warnings += part.checkpoint.warnings
    }
    return Checkpoint(
      path: listing.path, store: listing.store, format: first.checkpoint.format, files: files,
      tensors: tensors,
      configuration: try .read(in: listing.store) ?? first.checkpoint.configurationDocument,
      ggufMetadata: first.checkpoint.ggufMetadata, parts: parts, warnings: warnings)
  }

  /// Whether a directory has a name that `step3-convert` gives to parts.
  private static func isNamedLikePart(_ name: String) -> Bool {
    PartRole.parts.contains { name == $0.rawValue || name.hasPrefix("\($0.rawValue)-") }
  }
}
