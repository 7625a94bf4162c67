internal import ByteStreams
internal import Checkpoint
internal import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// Where a calibration keeps what it needs to go on after an interruption: beside its output, and removed with the last
/// step.
final class WorkingDirectory: Sendable {
  /// What the directory of an output is called.
  static let suffix = ".calibrating"
  private static let stateName = "state.json"

  /// What is calibrated with what. Nothing in the directory means anything to a run of other things.
  struct Identity: Codable, Equatable {
    /// The toolkit's version.
    var tool = toolkitVersion
    /// What is made, and every option that changes it.
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

  /// Opens the directory of an output, or makes it.
  ///
  /// - Parameters:
  ///   - resume: Whether to go on with what is there.
  ///   - overwrite: Whether to drop it.
  /// - Throws: `.cannotCreate` if something is there that may not be used, or somebody else is at it; `.invalidRequest`
  ///   or `.sourceChanged` if it is of another calibration.
  init(
    for output: String, _ identity: Identity, resume: Bool, overwrite: Bool
  ) throws(CheckpointError) {
    let path = output + Self.suffix
    if try !FileSystem.isTaken(path) { try FileSystem.createDirectory(path) }
    guard let directory = try HeldDirectory.open(path) else {
      throw CheckpointError(.cannotCreate, "is no directory", path: path)
    }
    try directory.lock()
    var done = 0
    let state = try Self.read(directory)
    if state == nil, try !directory.names().isEmpty {
      // Cut down before the first note: nothing but what is begun again. Names of others stay, and are in the way.
      try Self.clear(directory, path)
    } else if let state {
      // Before the first layer is done there is nothing to lose, whatever it was to become.
      if overwrite || state.layersDone == 0 {
        try Self.clear(directory, path)
      } else if !resume {
        throw CheckpointError(
          .cannotCreate, "holds a calibration that was begun (\(state.layersDone) layers done)", path: path,
          remedy: "give --resume to go on with it, or --overwrite to start afresh")
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
        .malformed, "does not say what is calibrated", path: directory.path(of: stateName),
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
        remedy: "go on with that, or give --overwrite to start afresh")
    }
    guard was.source == now.source else {
      throw CheckpointError(
        .sourceChanged, "was begun of other weights", path: path,
        remedy: "bring the source back, or give --overwrite to start afresh")
    }
  }

  /// Notes that layers are done, once everything that they left is on the disk.
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

  /// Removes the files that calibrations make, and nothing else.
  private static func clear(_ directory: HeldDirectory, _ path: String) throws(CheckpointError) {
    for name in try directory.names() {
      let stem = name.prefix { $0 != "." && $0 != "-" }
      guard ["state", "stream", "normalised", "layer"].contains(stem) else {
        throw CheckpointError(
          .cannotCreate, "holds '\(name.printable)', which no calibration leaves", path: path,
          remedy: "remove the directory yourself")
      }
      try directory.removeFile(name)
    }
  }
}
