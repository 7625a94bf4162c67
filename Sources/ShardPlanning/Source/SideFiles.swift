internal import ByteStreams
internal import Checkpoint
internal import TensorFormats

/// The files beside a source's weights, and which of them an output gets.
struct SideFiles {
  /// A file that is copied.
  struct File {
    /// The name in the source's store.
    let from: String
    /// The path below the part.
    let name: String
    let bytes: Int
  }

  private let store: any ByteStore
  private let folder: String
  /// What is copied.
  private(set) var files: [File] = []
  /// What is not, and why.
  private(set) var omissions: [ShardPlan.Omission] = []

  /// Everything beside the weights: what a copy of the model has to have.
  ///
  /// - Parameters:
  ///   - checkpoint: The source.
  ///   - directory: The folder of its store that they are in; empty for the store itself.
  /// - Throws: What listing the directory throws.
  static func all(beside checkpoint: Checkpoint, in directory: String) throws(CheckpointError) -> SideFiles {
    try SideFiles(checkpoint, directory, isWanted: { _ in true })
  }

  /// What an engine needs, independent of how weights are stored: tokenizer, generation settings, chat template,
  /// processors and model code.
  static func needed(beside checkpoint: Checkpoint, in directory: String) throws(CheckpointError) -> SideFiles
  {
    try SideFiles(checkpoint, directory, isWanted: isNeeded)
  }

  private init(
    _ checkpoint: Checkpoint, _ directory: String, isWanted: (String) -> Bool
  ) throws(CheckpointError) {
    store = checkpoint.store.folder(directory)
    folder = directory
    let weights = Set(checkpoint.files.map(\.name))
    // If the model was named by one of its files, other files in the directory may not belong to it.
    let isDirectory = checkpoint.isWholeStore
    for name in try store.names() {
      guard !name.hasPrefix("."), !Self.isMade(name), !weights.contains(from(name)) else { continue }
      guard isDirectory || Self.isNeeded(name) else { continue }
      switch try store.kind(of: name) {
      case .directory?:
        guard isWanted(name) || Self.textFolders.contains(name) else { continue }
        try addFolder(name)
      case .file?:
        guard isWanted(name) else {
          if name.hasSuffix(".json") {
            omissions.append(
              ShardPlan.Omission(
                what: from(name), reason: "it is about the source's files, or unknown here")
            )
          }
          continue
        }
        try add(name)
      default:
        if isWanted(name) {
          omissions.append(
            ShardPlan.Omission(
              what: from(name), reason: "it is a dangling link or not a regular file"))
        }
      }
    }
  }

  /// The name in the source's store of a file here.
  private func from(_ name: String) -> String { joinPath(folder, name) }

  /// What the output generates itself: the configuration, the index, the manifest.
  private static func isMade(_ name: String) -> Bool {
    name == "config.json" || name.hasSuffix(".safetensors.index.json") || name == OutputMarkers.manifest
      || name == OutputMarkers.journal
  }

  /// - Throws: `.malformed` for a Git LFS pointer in place of a file.
  private mutating func add(_ name: String) throws(CheckpointError) {
    guard let bytes = try store.size(of: name) else { return }
    try Self.checkContent(name, in: store)
    let from = from(name)
    if Self.weightSuffixes.contains(where: name.hasSuffix) {
      omissions.append(
        ShardPlan.Omission(what: from, reason: "it holds weights that are not part of this checkpoint"))
    } else if name.hasSuffix(OutputMarkers.signatureSuffix) {
      omissions.append(
        ShardPlan.Omission(what: from, reason: "it signs the source's files, not the output's"))
    } else if bytes > OutputMarkers.largestTextFile {
      omissions.append(
        ShardPlan.Omission(
          what: from, reason: "at \(bytes) bytes it is too large for a file beside the weights"))
    } else {
      files.append(File(from: from, name: name, bytes: bytes))
    }
  }

  /// Refuses what a failed download leaves in place of a file.
  static func checkContent(_ name: String, in store: any ByteStore) throws(CheckpointError) {
    let file = try store.open(name)
    let prefix = try file.readBytes(0..<min(file.byteCount, ForeignContent.prefixByteCount))
    let content = ForeignContent(prefix: prefix, byteCount: file.byteCount, expected: .json)
    let isPage = [".json", ".jinja", ".py", ".txt", ".model"].contains(where: name.hasSuffix)
    switch content {
    case .gitLFSPointer, .gitAnnexPointer: break
    case .webPage where isPage: break
    default: return
    }
    throw CheckpointError(.malformed, "is not what its name says", path: file.path)
      .explained(prefix: prefix, byteCount: file.byteCount, as: .json)
  }

  /// Folders hold templates and code, but also other forms of the model and pictures of its card.
  private mutating func addFolder(_ name: String) throws(CheckpointError) {
    let members = try store.names(in: name)
    var isText = true
    for member in members where isText {
      let isFile = try store.kind(of: joinPath(name, member)) == .file
      isText = isFile && Self.textSuffixes.contains(where: member.hasSuffix)
    }
    guard isText, !members.isEmpty else {
      omissions.append(
        ShardPlan.Omission(
          what: from(name) + "/", reason: "folders that hold more than text are not copied"))
      return
    }
    for member in members { try add(joinPath(name, member)) }
  }

  private static let textSuffixes = [".json", ".jinja", ".py", ".txt", ".md", ".model", ".tiktoken"]
  private static let textFolders: Set<String> = ["additional_chat_templates"]
  private static let weightSuffixes = [
    ".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack", ".npz",
    ".unfinished",
  ]

  private static func isNeeded(_ name: String) -> Bool {
    let prefixes = [
      "tokenizer", "vocab", "merges", "special_tokens", "added_tokens", "generation_config", "chat_template",
      "tekken",
    ]
    let suffixes = [
      "preprocessor_config.json", "processor_config.json", ".jinja", ".py", ".tiktoken", ".model",
    ]
    return prefixes.contains { name.hasPrefix($0) } || suffixes.contains { name.hasSuffix($0) }
  }
}
