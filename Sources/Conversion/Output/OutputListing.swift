internal import Archives
internal import ByteStreams
internal import Checkpoint
internal import ShardPlanning
internal import TensorFormats

/// Every path below its output that a conversion writes. Anything else is not ours.
struct OutputListing: Codable, Equatable, Sendable {
  /// The directories: those of a partition's parts, followed by the folders of side files.
  let parts: [String]
  /// Which of them hold side files only, and get no manifest.
  let folders: [String]
  /// The weight files of the plan.
  let weights: [String]
  /// Documents and copies.
  let texts: [String]
  /// The number of shares with their own journals; `nil` for none.
  private(set) var shares: Int?
  /// Whether the weight files are archived; `nil` for no.
  private var archived: Bool?

  init(_ plan: ShardPlan, isArchive: Bool = false) {
    archived = isArchive ? true : nil
    weights = plan.files.map(\.path)
    texts = plan.parts.flatMap { $0.documents.map(\.path) + $0.copies.map(\.path) }
    let directories = plan.parts.map(\.directory).filter { !$0.isEmpty }
    folders = Set(texts.compactMap { Self.directory(of: $0) }).subtracting(directories).sorted()
    parts = directories + folders
  }

  /// The names of a complete output in a directory.
  ///
  /// - Throws: `.inputOutput`.
  init(_ plan: ShardPlan, in directory: HeldDirectory) throws(CheckpointError) {
    self.init(plan, isArchive: try directory.holdsFile(ArchiveManifest.fileName))
  }

  /// Whether the output is an archive.
  var isArchive: Bool { archived ?? false }

  /// The final name of a weight file.
  func stored(_ weights: String) -> String { isArchive ? weights + ArchiveManifest.suffix : weights }

  /// What is written after all weight files; the manifest of an archive comes last.
  var documents: [String] { texts + (isArchive ? [ArchiveManifest.fileName] : []) }

  /// Weight files and documents.
  var contents: [String] { weights.map(stored) + documents }

  /// The directory part of a path; `nil` for a plain name.
  static func directory(of path: String) -> String? {
    path.lastIndex(of: "/").map { String(path[..<$0]) }
  }

  /// The directories with their own manifest or journal, the output itself last. (Folders of side files have a
  /// journal while they are being written.)
  private var directories: [String] { parts.map { $0 + "/" } + [""] }

  /// The manifests, that of the whole output last.
  var manifests: [String] { directories.map { $0 + OutputMarkers.manifest } }

  /// The journals, that of the whole output last.
  var journals: [String] { directories.map { $0 + OutputMarkers.journal } }

  /// The journals of shares.
  var shareJournals: [String] { ConversionShare.all(of: shares ?? 0).map(OutputMarkers.journal(of:)) }

  /// The same for a conversion divided into shares.
  func adding(shares count: Int) -> OutputListing {
    var copy = self
    copy.shares = count
    return copy
  }

  /// The files of a complete output, manifests last.
  var finished: [String] { contents + manifests }

  /// The files that exist only while an output is being written, journals last.
  var temporary: [String] {
    (weights + (isArchive ? weights.map(stored) : [])).map { $0 + OutputMarkers.unfinishedSuffix }
      + (documents + manifests + journals + shareJournals).map { $0 + temporarySuffix }
      + shareJournals + journals
  }

  /// Whether no name leads out of the output, appears twice, or is a reserved marker.
  var isSound: Bool {
    let names = weights + texts
    guard (0...ConversionShare.most).contains(shares ?? 0),
      parts.allSatisfy({ OutputPath.isPlain($0, components: 2) }), Set(parts).count == parts.count,
      names.allSatisfy({ OutputPath.isPlain($0, components: 3) })
    else { return false }
    let all = parts + finished + temporary
    let known = Set(parts)
    return Set(all).count == all.count
      && names.allSatisfy { name in
        guard let directory = Self.directory(of: name) else { return true }
        return known.contains(directory)
      }
      // A folder is in the output or in one of its parts.
      && folders.allSatisfy { Self.directory(of: $0).map(known.contains) ?? true }
  }
}

/// Untrusted names.
enum OutputPath {
  /// Whether a path is relative, only descends, has at most `limit` components, and does not name a marker or
  /// replacement of outputs.
  static func isPlain(_ path: String, components limit: Int) -> Bool {
    let components = path.split(separator: "/", omittingEmptySubsequences: false)
    return components.count <= limit
      && components.allSatisfy { component in
        !component.isEmpty && component != "." && component != ".." && !component.utf8.contains(0)
          && component != OutputReplacement.newName && component != OutputReplacement.oldName
      }
  }
}

extension OutputMarkers {
  /// The journal of one share.
  static func journal(of share: ConversionShare) -> String {
    "step3-convert.share-\(share.number)-of-\(share.count)"
  }
}

// MARK: - Comparing with a directory

extension OutputListing {
  /// Entries of an output and its parts that are not ours.
  ///
  /// - Parameter ours: The names that are; `nil` for all listed ones.
  /// - Throws: `.inputOutput`.
  func strangers(in root: HeldDirectory, ours: [String]? = nil) throws(CheckpointError) -> [String] {
    let known = Set(
      (ours ?? finished + temporary) + parts + [OutputReplacement.newName, OutputReplacement.oldName])
    var names = try root.names()
    for part in parts {
      guard let entry = try root.entry(part), entry.kind == .directory else { continue }
      names += try root.directory(part)?.names().map { joinPath(part, $0) } ?? []
    }
    var strangers = names.filter { !known.contains($0) }
    for part in parts where try root.entry(part).map({ $0.kind != .directory }) ?? false {
      strangers.append(part)
    }
    return strangers
  }

  /// Checks that only our own files are where this will be written.
  ///
  /// - Parameters:
  ///   - root: The output.
  ///   - names: The files that are ours.
  ///   - directories: The directories that are ours.
  /// - Throws: `.cannotCreate` naming what is in the way.
  func checkWay(
    in root: HeldDirectory, over names: Set<String>, _ directories: Set<String>
  ) throws(CheckpointError) {
    for part in parts {
      guard let entry = try root.entry(part) else { continue }
      guard entry.kind == .directory, directories.contains(part),
        entry.identity.device == root.identity.device
      else { throw Self.inTheWay(part, entry, in: root) }
    }
    for name in finished + temporary {
      guard let entry = try root.entry(name) else { continue }
      guard entry.kind == .file, names.contains(name) else { throw Self.inTheWay(name, entry, in: root) }
    }
  }

  static func inTheWay(
    _ name: String, _ entry: HeldDirectory.Entry, in root: HeldDirectory
  ) -> CheckpointError {
    let what =
      switch entry.kind {
      case .link: "is a symbolic link where this conversion would write"
      case .directory: "is a directory where this conversion would write, not created by step3-convert"
      case .file: "is where this conversion would write, and was not written by step3-convert"
      case .other: "is neither file nor directory, and is where this conversion would write"
      }
    return CheckpointError(
      .cannotCreate, what, path: root.path(of: name),
      remedy: "move it away yourself, or choose another output")
  }
}

extension HeldDirectory {
  /// The entry at a name; anything behind a symbolic link is ignored.
  ///
  /// - Throws: `.inputOutput`: a failing device does not mean that nothing is there.
  func standing(at name: String) throws(CheckpointError) -> Entry? {
    do throws(CheckpointError) {
      return try entry(name)
    } catch {
      guard error.code == .inputOutput else { return nil }
      throw error
    }
  }

  /// Whether a regular file has that name; anything behind a symbolic link is ignored.
  ///
  /// - Throws: As ``standing(at:)``.
  func holdsFile(_ name: String) throws(CheckpointError) -> Bool { try standing(at: name)?.kind == .file }

  /// Removes the files among these names, but nothing of any other kind.
  ///
  /// - Throws: `.inputOutput`.
  func removeFiles(_ names: [String]) throws(CheckpointError) {
    for name in names where try holdsFile(name) { try removeFile(name) }
  }

  /// Syncs a directory's names and those of the directories in it.
  ///
  /// - Throws: `.inputOutput`.
  func synchronize(with parts: [String]) throws(CheckpointError) {
    for part in parts where try standing(at: part)?.kind == .directory { try directory(part)?.synchronize() }
    try synchronize()
  }

  /// Marks a directory as unfinished.
  ///
  /// - Throws: `.cannotCreate`, `.inputOutput`.
  func mark() throws(CheckpointError) {
    try writeAtomically(JournalFormat.title, to: OutputMarkers.journal, replacing: true)
    try synchronize()
  }
}
