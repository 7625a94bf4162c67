internal import ByteStreams
internal import Checkpoint
internal import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// Where a calibration keeps what it needs to resume: beside its output, and removed at the end.
final class WorkingDirectory: Sendable {
  /// The suffix of the directory's name, after the output's.
  static let suffix = ".calibrating"
  private static let stateName = "state.json"

  /// The inputs of a calibration. The directory's contents are meaningless to a run with different ones.
  struct Identity: Codable, Equatable {
    /// The toolkit's version.
    var tool = toolkitVersion
    /// What is made, and every option that affects it.
    var purpose: String
    /// The source's files.
    var source: [SourceFile]
    /// XXH3-128 of the tokens.
    var tokens: String

    struct SourceFile: Codable, Equatable {
      var name: String
      var bytes: Int
      /// XXH3-128 of its header.
      var header: String
    }

    init(purpose: String, _ checkpoint: Checkpoint, _ input: CalibrationInput) throws(CheckpointError) {
      self.purpose = purpose
      var files: [SourceFile] = []
      for file in checkpoint.files where !file.isDerived {
        var digester = XXH3Digester()
        let header = try file.source.readBytes(0..<file.dataOffset)
        unsafe digester.update(header.span.bytes)
        files.append(
          SourceFile(name: file.name, bytes: file.source.byteCount, header: "\(digester.finalize())"))
      }
      source = files
      tokens = input.digest
    }
  }

  private struct State: Codable {
    var identity: Identity
    var layersDone: Int
  }

  private let directory: HeldDirectory
  private let identity: Identity
  /// How many layers an earlier run has done.
  let layersDone: Int

  /// Opens the directory of an output, or creates it.
  ///
  /// - Parameters:
  ///   - resume: Whether to resume existing work.
  ///   - overwrite: Whether to discard it.
  /// - Throws: `.cannotCreate` if something is there that may not be used, or another process is using it;
  ///   `.invalidRequest` or `.sourceChanged` if it belongs to another calibration.
  init(
    for output: String, _ identity: Identity, resume: Bool, overwrite: Bool
  ) throws(CheckpointError) {
    let path = output + Self.suffix
    if try !FileSystem.isTaken(path) { try FileSystem.createDirectory(path) }
    guard let directory = try HeldDirectory.open(path) else {
      throw CheckpointError(.cannotCreate, "is not a directory", path: path)
    }
    try directory.lock()
    var done = 0
    let state = try Self.read(directory)
    if state == nil, try !directory.names().isEmpty {
      // Interrupted before the first record: everything is redone. Foreign files are kept, and are in the way.
      try Self.clear(directory, path)
    } else if let state {
      // Before the first layer is done there is nothing to lose, whatever it was to become.
      if overwrite || state.layersDone == 0 {
        try Self.clear(directory, path)
      } else if !resume {
        throw CheckpointError(
          .cannotCreate, "holds a calibration that was begun (\(state.layersDone) layers done)", path: path,
          remedy: "give --resume to continue it, or --overwrite to start afresh")
      } else {
        try Self.check(state.identity, identity, path)
        done = state.layersDone
      }
    }
    self.directory = directory
    self.identity = identity
    layersDone = done
    if done == 0 { try note(layersDone: 0) }
  }

  private static func read(_ directory: HeldDirectory) throws(CheckpointError) -> State? {
    guard let entry = try directory.entry(stateName), entry.kind == .file else { return nil }
    let file = try InputFile(stateName, in: directory)
    let bytes = try file.readBytes(0..<file.byteCount)
    do {
      return try JSONDecoder().decode(State.self, from: Data(bytes))
    } catch {
      throw CheckpointError(
        .malformed, "does not describe the calibration", path: directory.path(of: stateName),
        remedy: "remove the directory and start afresh")
    }
  }

  private static func check(_ was: Identity, _ now: Identity, _ path: String) throws(CheckpointError) {
    guard was.tool == now.tool, was.purpose == now.purpose, was.tokens == now.tokens else {
      let what =
        was.tool != now.tool
        ? "version \(was.tool.printable) of the toolkit"
        : was.tokens != now.tokens ? "another text" : "other options"
      throw CheckpointError(
        .invalidRequest, "was begun with \(what)", path: path,
        remedy: "continue with that, or give --overwrite to start afresh")
    }
    guard was.source == now.source else {
      throw CheckpointError(
        .sourceChanged, "was begun with other weights", path: path,
        remedy: "restore the source, or give --overwrite to start afresh")
    }
  }

  /// Records that layers are done, once all their output is on disk.
  func note(layersDone: Int) throws(CheckpointError) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    let text: Data
    do {
      text = try encoder.encode(State(identity: identity, layersDone: layersDone))
    } catch {
      preconditionFailure("a state can always be encoded: \(error)")
    }
    try directory.writeAtomically(Array(text), to: Self.stateName, replacing: true)
    try directory.synchronize()
  }

  /// The path of a file in it.
  func path(of name: String) -> String { directory.path(of: name) }

  /// Removes everything that a calibration left, and the directory.
  func remove() throws(CheckpointError) {
    try Self.clear(directory, directory.path)
    directory.unlock()
    FileSystem.removeDirectoryIfEmpty(directory.path)
  }

  /// Removes only the files that calibrations create.
  private static func clear(_ directory: HeldDirectory, _ path: String) throws(CheckpointError) {
    for name in try directory.names() {
      let stem = name.prefix { $0 != "." && $0 != "-" }
      guard ["state", "stream", "normalised", "layer"].contains(stem) else {
        throw CheckpointError(
          .cannotCreate, "holds '\(name.printable)', which no calibration creates", path: path,
          remedy: "remove the directory yourself")
      }
      try directory.removeFile(name)
    }
  }
}
