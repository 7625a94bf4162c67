internal import ByteStreams
internal import Checkpoint
internal import TensorFormats

/// How far an earlier run got with an output.
enum OutputState {
  /// Nothing, or what a crash at the very start leaves: a journal without its final name.
  case empty
  /// The remains of an interrupted conversion, or of an interrupted exchange of two outputs.
  case unfinished
  /// There is a manifest, and it is ours.
  case finished(Manifest)
  /// Something else, and why.
  case foreign(CheckpointError)

  /// Looks at what is in an output.
  ///
  /// - Throws: `.inputOutput`.
  init(_ root: HeldDirectory) throws(CheckpointError) {
    let names = try root.names()
    for name in [OutputMarkers.manifest, OutputMarkers.journal] where names.contains(name) {
      guard let entry = try root.entry(name), entry.kind != .file else { continue }
      self = .foreign(OutputListing.inTheWay(name, entry, in: root))
      return
    }
    if names.contains(OutputMarkers.manifest) {
      do throws(CheckpointError) {
        self = .finished(try Manifest.read(in: root))
      } catch {
        guard error.code != .inputOutput else { throw error }
        self = .foreign(
          CheckpointError(
            .cannotCreate,
            "exists and was not written by step3-convert: \(OutputMarkers.manifest) cannot be read:  "
              + error.message, path: root.path, remedy: "remove it yourself, or choose another output"))
      }
    } else if names.contains(OutputMarkers.journal) {
      self = .unfinished
    } else if names.allSatisfy({ $0.hasPrefix(OutputMarkers.journal) }) {
      self = .empty
    } else {
      // Only what a conversion wrote is removed: a typo must not cost a home directory.
      self = .foreign(
        CheckpointError(
          .cannotCreate, "exists and was not written by step3-convert", path: root.path,
          remedy: "remove it yourself, or choose another output"))
    }
  }
}
