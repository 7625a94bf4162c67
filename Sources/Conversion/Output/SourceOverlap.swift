internal import ByteStreams
internal import Checkpoint
internal import ShardPlanning
internal import TensorFormats

/// Keeps a conversion from writing where it reads.
///
/// Source and output are compared by identity, not by name: device and inode, with all links followed. The source may
/// be a directory, a single file, a part of a partition set, or links to such.
struct SourceOverlap {
  /// The user's path.
  private let source: String
  /// The directories that make up the source; none if it is a file.
  private let directories: [String]
  /// The files that are read: weights, configuration, what is copied.
  private let files: [String]

  /// A remote source overlaps with nothing.
  ///
  /// - Throws: `.inputOutput`.
  init(_ checkpoint: Checkpoint, _ plan: ShardPlan) throws(CheckpointError) {
    source = checkpoint.path
    guard let directory = checkpoint.store.directory else {
      (directories, files) = ([], [])
      return
    }
    // The parts of a set may be elsewhere, reached through links.
    let places = checkpoint.files.filter { !$0.isDerived }.map { splitPath($0.source.path).directory }
    directories = checkpoint.isWholeStore ? [directory] + Set(places).subtracting([directory]).sorted() : []
    let copies = plan.parts.flatMap { $0.copies.map { joinPath(directory, $0.from) } }
    let weights = checkpoint.files.filter { !$0.isDerived }.map(\.source.path)
    let besides = Set(copies + [checkpoint.path, joinPath(directory, ConfigurationDocument.name)])
    var found: [String] = []
    for path in besides.sorted() { if try FileSystem.kind(of: path) == .file { found.append(path) } }
    files = weights + found
  }

  /// Checks that the output is not the source, and neither contains the other.
  ///
  /// - Throws: `.cannotCreate` naming both.
  func check(_ output: OutputPlace) throws(CheckpointError) {
    let around = try output.ancestry()
    for directory in directories {
      guard let identity = try FileSystem.identity(of: directory), around.contains(identity) else { continue }
      throw overlap(
        identity == output.directory?.identity
          ? "is the source itself, \(directory)" : "lies in the source, \(directory)", output.path)
    }
    guard let output = output.directory else { return }
    var seen: Set<String> = []
    for path in directories + files {
      // Both the directory of a file's name and that of the file itself, in case the name is a link.
      let places = [path, splitPath(path).directory].filter { seen.insert($0).inserted }
      for place in places where try FileSystem.ancestry(of: place).contains(output.identity) {
        throw overlap("holds the source's \(path)", output.path)
      }
    }
  }

  /// Checks that nothing in an existing output is one of the source's files under another name.
  ///
  /// - Throws: `.cannotCreate` naming both, `.inputOutput`.
  func check(contentsOf output: HeldDirectory) throws(CheckpointError) {
    var read: [FileIdentity: String] = [:]
    for path in directories + files {
      if let identity = try FileSystem.identity(of: path) { read[identity] = path }
    }
    func check(_ name: String) throws(CheckpointError) {
      let path = output.path(of: name)
      guard let identity = try FileSystem.identity(of: path), let file = read[identity] else { return }
      throw overlap("is the source's \(file) under another name", path)
    }
    for name in try output.names() {
      try check(name)
      guard let entry = try output.entry(name), entry.kind == .directory else { continue }
      for inner in try output.directory(name)?.names() ?? [] { try check(joinPath(name, inner)) }
    }
  }

  /// Checks that a file that is going to be written is not one of the source's, and does not lie in a source directory,
  /// where it would become part of the model.
  ///
  /// - Throws: `.cannotCreate` naming both.
  func check(file path: String) throws(CheckpointError) {
    let around = try FileSystem.ancestry(of: splitPath(path).directory)
    for directory in directories {
      guard let identity = try FileSystem.identity(of: directory), around.contains(identity) else { continue }
      throw overlap("lies in the source, \(directory)", path)
    }
    guard let identity = try FileSystem.identity(of: path) else { return }
    for file in files where try FileSystem.identity(of: file) == identity {
      throw overlap("is the source's \(file)", path)
    }
  }

  private func overlap(_ what: String, _ path: String) -> CheckpointError {
    CheckpointError(
      .cannotCreate, "\(what): the output must not overlap the source", path: path,
      remedy: "choose another output")
  }
}
