internal import ByteStreams
internal import GGUF
internal import Safetensors
public import TensorFormats

extension Checkpoint {
  /// Opens whatever `path` names: a checkpoint directory, one `.safetensors` file, an `index.json`, one `.gguf` file,
  /// the first shard of a split GGUF, or a partition set. Reads headers only.
  ///
  /// - Throws: `.notFound` if there is nothing to open, `.unfinished` for the remains of an interrupted conversion,
  ///   `.malformed`, `.truncated` or `.unsupported` for what is wrong with the files.
  /// - Complexity: Proportional to the headers; no tensor data is read.
  public static func open(_ path: String) throws(CheckpointError) -> Checkpoint {
    guard let kind = FileSystem.kind(of: path) else {
      throw CheckpointError(.notFound, "there is no such file or directory", path: path)
    }
    if kind == .directory { return try openDirectory(path) }
    let (directory, name) = splitPath(path)
    try refuseUnfinished(DirectoryListing(directory))
    if name.hasSuffix(".index.json") {
      return try openSafetensors(path, in: DirectoryListing(directory), index: name)
    }
    if name.hasSuffix(OutputMarkers.unfinishedSuffix) {
      throw CheckpointError(.unfinished, "this file was not finished", path: path)
    }
    // The content decides, not the name: blobs in Hugging Face's cache have none.
    let file = try InputFile(path)
    let start = try file.readBytes(0..<min(4, file.byteCount))
    if start == Array("GGUF".utf8) {
      return try openGGUF(path, in: directory, names: [name], listing: DirectoryListing(directory))
    }
    if name.hasSuffix(".gguf") {
      throw CheckpointError(
        .malformed, "does not start with the magic 'GGUF'", path: path, offset: 0,
        remedy: "the file is not GGUF, or its download failed")
    }
    return try openSafetensors(path, in: directory, shards: [name], warnings: [])
  }

  private static func openDirectory(_ path: String) throws(CheckpointError) -> Checkpoint {
    let listing = try DirectoryListing(path)
    try refuseUnfinished(listing)
    let indexes = listing.names(endingIn: ".safetensors.index.json")
    if listing.contains("model.safetensors.index.json") {
      return try openSafetensors(path, in: listing, index: "model.safetensors.index.json")
    }
    if indexes.count > 1 {
      throw CheckpointError(
        .unsupported, "there are several indexes: \(indexes.joined(separator: ", "))", path: path,
        remedy: "name the one to open")
    }
    let shards = listing.names(endingIn: ".safetensors")
    if let index = indexes.first ?? (shards.isEmpty ? nil : listing.names(endingIn: ".index.json").first) {
      return try openSafetensors(path, in: listing, index: index)
    }
    if !shards.isEmpty {
      let warnings = shards.count > 1 ? ["\(path): \(shards.count) safetensors files without an index"] : []
      return try openSafetensors(path, in: path, shards: shards, warnings: warnings)
    }
    let ggufs = listing.names(endingIn: ".gguf")
    if !ggufs.isEmpty {
      return try openGGUF(path, in: path, names: mainGGUFs(ggufs, in: path), listing: listing)
    }
    if let set = try openPartitionSet(path, listing) { return set }
    throw CheckpointError(
      .notFound, "there are no .safetensors and no .gguf files in this directory", path: path)
  }

  private static func refuseUnfinished(_ listing: DirectoryListing) throws(CheckpointError) {
    guard listing.contains(OutputMarkers.journal), !listing.contains(OutputMarkers.manifest) else { return }
    throw CheckpointError(
      .unfinished, "this is the unfinished output of an interrupted conversion", path: listing.path,
      remedy: "run the same step3-convert command again with --resume, or with --overwrite to start afresh")
  }

  /// `config.json` beside the weights.
  static func readConfiguration(in directory: String) throws(CheckpointError) -> [UInt8]? {
    let path = "\(directory)/config.json"
    guard FileSystem.kind(of: path) == .file else { return nil }
    let file = try InputFile(path)
    guard file.byteCount <= OutputMarkers.largestTextFile else {
      throw CheckpointError(
        .malformed, "\(file.byteCount) bytes are too many for a configuration", path: path)
    }
    return try file.readBytes(0..<file.byteCount)
  }
}

// MARK: - Safetensors

extension Checkpoint {
  private static func openSafetensors(
    _ path: String, in listing: DirectoryListing, index name: String
  ) throws(CheckpointError) -> Checkpoint {
    let index = try SafetensorsIndex.read(from: InputFile("\(listing.path)/\(name)"))
    let strays = listing.names(endingIn: ".safetensors").filter { !index.shardNames.contains($0) }
    let warnings =
      strays.isEmpty
      ? [] : ["\(listing.path): not in the index and ignored: \(strays.joined(separator: ", "))"]
    return try openSafetensors(
      path, in: listing.path, shards: index.shardNames, index: index, warnings: warnings)
  }

  private static func openSafetensors(
    _ path: String, in directory: String, shards: [String], index: SafetensorsIndex? = nil, warnings: [String]
  ) throws(CheckpointError) -> Checkpoint {
    var files: [File] = []
    var tensors: [Tensor] = []
    var headers: [String: SafetensorsHeader] = [:]
    for shard in shards {
      let source: InputFile
      do throws(CheckpointError) {
        source = try InputFile("\(directory)/\(shard)")
      } catch {
        guard index != nil, error.code == .notFound else { throw error }
        var missing = error
        missing.message = "the index names this shard, but it \(error.message)"
        missing.remedy = "the download may be incomplete"
        throw missing
      }
      let header = try SafetensorsHeader.read(from: source)
      tensors += header.tensors.map {
        Tensor(
          name: $0.name, elementType: $0.elementType, shape: $0.shape, file: files.count,
          byteRange: $0.byteRange)
      }
      files.append(
        File(
          name: shard, source: source, dataOffset: header.dataOffset, safetensorsMetadata: header.metadata,
          ggufMetadata: nil, byteOrder: .little))
      headers[shard] = header
    }
    let warnings = try warnings + checkShards(directory, shards, headers, index)
    return Checkpoint(
      path: path, directory: directory, format: .safetensors, files: files, tensors: tensors,
      configuration: try readConfiguration(in: directory), warnings: warnings)
  }
}

extension Checkpoint {
  /// Compares shards with their index, or with each other where there is none.
  private static func checkShards(
    _ path: String, _ shards: [String], _ headers: [String: SafetensorsHeader], _ index: SafetensorsIndex?
  ) throws(CheckpointError) -> [String] {
    if let index {
      let issues = ShardedSafetensors.issues(index: index, shards: headers)
      if let issue = issues.first(where: { $0.severity == .error }) {
        var error = issue.error
        error.path = error.path.map { "\(path)/\($0)" } ?? path
        throw error
      }
      return issues.map { "\(path): \($0.error)" }
    }
    var owners: [String: String] = [:]
    for shard in shards {
      for tensor in headers[shard]?.tensors ?? [] {
        if let owner = owners.updateValue(shard, forKey: tensor.name) {
          throw CheckpointError(
            .malformed, "is in two shards, \(owner) and \(shard)", path: path, tensor: tensor.name,
            remedy: "name one file, or add the index that says which counts")
        }
      }
    }
    return []
  }
}

// MARK: - GGUF

extension Checkpoint {
  /// Which of a directory's GGUF files make up one model: the only one, a split set's first, and a vision companion.
  private static func mainGGUFs(_ names: [String], in path: String) throws(CheckpointError) -> [String] {
    let companions = names.filter { $0.hasPrefix("mmproj") }
    var mains = names.filter { !$0.hasPrefix("mmproj") }
    if mains.count > 1 {
      // Of a split set only the first file is named; it leads to the others.
      mains = mains.filter { GGUFSplitName(path: $0)?.index ?? 0 == 0 }
    }
    guard mains.count <= 1 else {
      throw CheckpointError(
        .unsupported, "there are several models: \(mains.joined(separator: ", "))", path: path,
        remedy: "name the one to open")
    }
    guard companions.count <= 1 || mains.isEmpty else {
      throw CheckpointError(
        .unsupported, "there are several vision companions: \(companions.joined(separator: ", "))",
        path: path,
        remedy: "name the file to open")
    }
    return mains + companions
  }

  private static func openGGUF(
    _ path: String, in directory: String, names: [String], listing: DirectoryListing
  ) throws(CheckpointError) -> Checkpoint {
    var files: [File] = []
    var tensors: [Tensor] = []
    var owners: [String: String] = [:]
    var metadata: GGUFMetadata?
    for name in names {
      let set = try GGUFSplitSet.read(firstPart: "\(directory)/\(name)")
      metadata = metadata ?? set.metadata
      for part in set.parts {
        let fileName = splitPath(part.path).name
        for tensor in part.header.tensors {
          if let owner = owners.updateValue(fileName, forKey: tensor.name) {
            throw CheckpointError(
              .malformed, "is in two files, \(owner) and \(fileName)", path: path, tensor: tensor.name)
          }
          tensors.append(
            Tensor(
              name: tensor.name, elementType: tensor.elementType, shape: tensor.shape, file: files.count,
              byteRange: tensor.byteRange))
        }
        files.append(
          File(
            name: fileName, source: try InputFile(part.path), dataOffset: part.header.dataOffset,
            safetensorsMetadata: [:], ggufMetadata: part.header.metadata, byteOrder: part.header.byteOrder))
      }
    }
    return Checkpoint(
      path: path, directory: directory, format: .gguf, files: files, tensors: tensors,
      configuration: try readConfiguration(in: directory), ggufMetadata: metadata)
  }
}
