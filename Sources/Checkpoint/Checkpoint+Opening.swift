public import ByteStreams
internal import GGUF
internal import Safetensors
public import TensorFormats

extension Checkpoint {
  /// Opens whatever `path` names: a checkpoint directory, one `.safetensors` file, an `index.json`, one `.gguf` file,
  /// the first shard of a split GGUF, a partition set, or the root of a model in Hugging Face's cache. Reads headers
  /// only.
  ///
  /// - Throws: `.notFound` if there is nothing to open or shards are missing, `.unfinished` for the remains of an
  ///   interrupted conversion, `.malformed`, `.truncated` or `.unsupported` for what is wrong with the files, and if it
  ///   is not clear which files are the model.
  /// - Complexity: Proportional to the headers; no tensor data is read.
  public static func open(_ path: String) throws(CheckpointError) -> Checkpoint {
    let path = try resolve(path)
    if try FileSystem.kind(of: path) == .directory { return try open(in: DirectoryStore(path)) }
    let (directory, name) = splitPath(path)
    return try open(name, in: DirectoryStore(directory), path: path)
  }

  /// The path to open: the snapshot if the path leads into Hugging Face's cache, otherwise the path itself.
  ///
  /// - Throws: `.notFound` if there is nothing; as ``open(_:)`` for a cache.
  package static func resolve(_ path: String) throws(CheckpointError) -> String {
    guard try FileSystem.kind(of: path) != nil else {
      throw CheckpointError(.notFound, "there is no such file or directory", path: path)
    }
    return try HuggingFaceCache.resolve(path)
  }

  /// Opens one file of a store, and what belongs to it: one `.safetensors` file, an `index.json`, one `.gguf` file or the
  /// first shard of a split GGUF.
  ///
  /// - Parameters:
  ///   - name: The file's name in the store.
  ///   - store: Where the file and its neighbours are.
  ///   - path: What the user named.
  /// - Throws: As ``open(_:)``.
  public static func open(
    _ name: String, in store: any ByteStore, path: String
  ) throws(CheckpointError) -> Checkpoint {
    let listing = try DirectoryListing(store)
    try refuseUnfinished(listing)
    if name.hasSuffix(".index.json") { return try openSafetensors(path, in: listing, index: name) }
    if name.hasSuffix(OutputMarkers.unfinishedSuffix) {
      throw CheckpointError(.unfinished, "this file was not finished", path: path)
    }
    // The content decides, not the name: blobs in Hugging Face's cache have none.
    let file = try store.open(name)
    let start = try file.readBytes(0..<min(4, file.byteCount))
    if start == Array("GGUF".utf8) { return try openGGUF(path, in: store, names: [name]) }
    if name.hasSuffix(".gguf") {
      throw CheckpointError(
        .malformed, "does not start with the magic 'GGUF'", path: path, offset: 0,
        remedy: "the file is not GGUF, or its download failed"
      ).explained(by: file, as: .gguf)
    }
    var warnings: [String] = []
    if let part = NumberedName(name), part.family.count > 1 {
      warnings.append("\(path): this is one of \(part.family.count) shards; the others were not opened")
    }
    return try openSafetensors(path, in: store, shards: [name], warnings: warnings)
  }

  /// Opens the model that a store holds: a checkpoint directory or a partition set, wherever it lies.
  ///
  /// - Throws: As ``open(_:)``.
  public static func open(in store: any ByteStore) throws(CheckpointError) -> Checkpoint {
    let listing = try DirectoryListing(store)
    try refuseUnfinished(listing)
    if let choice = try SafetensorsChoice(listing) {
      if let index = choice.index {
        return try openSafetensors(store.path, in: listing, index: index, warnings: choice.warnings)
      }
      return try openSafetensors(store.path, in: store, shards: choice.shards, warnings: choice.warnings)
    }
    if let choice = try GGUFChoice(listing) {
      return try openGGUF(store.path, in: store, names: choice.names, warnings: choice.warnings)
    }
    if let set = try openPartitionSet(listing) { return set }
    throw nothingToOpen(listing)
  }

  /// The error for a directory without weights, listing what it holds instead.
  private static func nothingToOpen(_ listing: DirectoryListing) -> CheckpointError {
    var remedy: String?
    let pickles = [".bin", ".pt", ".pth", ".ckpt"].flatMap { listing.names(endingIn: $0) }
    let inner = listing.names.filter { name in
      let names = (try? listing.store.names(in: name)) ?? []
      return names.contains { $0.hasSuffix(".safetensors") || $0.hasSuffix(".gguf") || $0 == "snapshots" }
    }
    if !inner.isEmpty {
      remedy = "name a directory with weights: \(listed(inner.map(listing.store.path(of:))))"
    } else if !pickles.isEmpty {
      remedy = "\(listed(pickles)) cannot be read: save the model as safetensors first"
    }
    return CheckpointError(
      .notFound, "there are no .safetensors and no .gguf files in this directory", path: listing.path,
      remedy: remedy)
  }

  private static func refuseUnfinished(_ listing: DirectoryListing) throws(CheckpointError) {
    guard listing.contains(OutputMarkers.journal), !listing.contains(OutputMarkers.manifest) else { return }
    throw CheckpointError(
      .unfinished, "this is the unfinished output of an interrupted conversion", path: listing.path,
      remedy: "run the same step3-convert command again with --resume, or with --overwrite to start afresh")
  }
}

// MARK: - Safetensors

extension Checkpoint {
  private static func openSafetensors(
    _ path: String, in listing: DirectoryListing, index name: String, warnings: [String] = []
  ) throws(CheckpointError) -> Checkpoint {
    let store = listing.store
    let index = try SafetensorsIndex.read(from: store.open(name))
    var missing: [String] = []
    for name in index.shardNames { if try store.kind(of: name) == nil { missing.append(name) } }
    guard missing.isEmpty else {
      let single = "model.safetensors"
      let isThere = !index.shardNames.contains(single) && listing.contains(single)
      throw SafetensorsChoice.missing(
        missing, of: index.shardNames.count, path: store.path(of: name),
        remedy: isThere ? "name \(store.path(of: single)) to open it alone" : nil)
    }
    let strays = listing.names(endingIn: ".safetensors").filter { !index.shardNames.contains($0) }
    let ignored =
      strays.isEmpty
      ? [] : ["\(listing.path): not in the index and ignored: \(strays.joined(separator: ", "))"]
    return try openSafetensors(
      path, in: store, shards: index.shardNames, index: index, warnings: warnings + ignored)
  }

  private static func openSafetensors(
    _ path: String, in store: any ByteStore, shards: [String], index: SafetensorsIndex? = nil,
    warnings: [String]
  ) throws(CheckpointError) -> Checkpoint {
    var files: [File] = []
    var tensors: [Tensor] = []
    var headers: [String: SafetensorsHeader] = [:]
    for (shard, source) in zip(shards, try store.openAll(shards)) {
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
    let warnings = try warnings + checkShards(store, shards, headers, index)
    return Checkpoint(
      path: path, store: store, format: .safetensors, files: files, tensors: tensors,
      configuration: try .read(in: store), warnings: warnings)
  }
}

extension Checkpoint {
  /// Compares shards with their index, or with each other if there is none.
  private static func checkShards(
    _ store: any ByteStore, _ shards: [String], _ headers: [String: SafetensorsHeader],
    _ index: SafetensorsIndex?
  ) throws(CheckpointError) -> [String] {
    let path = store.path
    if let index {
      let issues = ShardedSafetensors.issues(index: index, shards: headers)
      if let issue = issues.first(where: { $0.severity == .error }) {
        var error = issue.error
        error.path = error.path.map(store.path(of:)) ?? path
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
            remedy: "name one file, or add the index that says which one to use")
        }
      }
    }
    return []
  }
}

// MARK: - GGUF

extension Checkpoint {
  private static func openGGUF(
    _ path: String, in store: any ByteStore, names: [String], warnings: [String] = []
  ) throws(CheckpointError) -> Checkpoint {
    var files: [File] = []
    var tensors: [Tensor] = []
    var owners: [String: String] = [:]
    var metadata: GGUFMetadata?
    for name in names {
      let set = try GGUFSplitSet.read(firstPart: store.path(of: name)) {
        path throws(CheckpointError) in try store.open(splitPath(path).name)
      }
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
            name: fileName, source: try store.open(fileName), dataOffset: part.header.dataOffset,
            safetensorsMetadata: [:], ggufMetadata: part.header.metadata, byteOrder: part.header.byteOrder))
      }
    }
    return Checkpoint(
      path: path, store: store, format: .gguf, files: files, tensors: tensors,
      configuration: try .read(in: store), ggufMetadata: metadata, warnings: warnings)
  }
}
