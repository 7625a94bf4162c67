internal import ByteStreams
public import Checkpoint
internal import JSON
internal import Safetensors
public import TensorFormats

extension EngineSubject {
  /// What a loader would see of a checkpoint on disk.
  ///
  /// - Throws: What reading the index throws, and errors in an unreadable configuration.
  /// - Complexity: Proportional to the headers and the index; no tensor is read.
  public init(_ checkpoint: Checkpoint) throws(CheckpointError) {
    try checkpoint.requireReadableConfiguration()
    let names = checkpoint.files.map(\.name)
    let tensors = checkpoint.tensors.map {
      Tensor(name: $0.name, elementType: $0.elementType, shape: $0.shape, file: names[$0.file])
    }
    self.init(
      path: checkpoint.path, isGGUF: checkpoint.format == .gguf,
      ggufArchitecture: checkpoint.format == .gguf ? checkpoint.architecture : nil,
      isPartition: !checkpoint.parts.isEmpty || checkpoint.configurationDocument?.isPart == true,
      tensors: tensors,
      // The first eight bytes are the header's length.
      files: checkpoint.files.map { File(name: $0.name, headerByteCount: max(0, $0.dataOffset - 8)) },
      configuration: nil,
      read: { tensor throws(CheckpointError) in
        guard let found = checkpoint[tensor.name] else {
          throw CheckpointError(
            .notFound, "is not in the checkpoint", path: checkpoint.path, tensor: tensor.name)
        }
        return try checkpoint.files[found.file].source.readBytes(found.byteRange)
      })
    configuration = checkpoint.configurationDocument
    guard checkpoint.format == .safetensors, checkpoint.parts.isEmpty else { return }
    let store = checkpoint.store
    let besides = "hf_quant_config.json"
    if try store.kind(of: besides) == .file {
      modelOptConfiguration = try store.read(besides, limit: JSONValue.largestDocument)
    }
    let listing = try store.names()
    guard let index = listing.first(where: { $0.hasSuffix(".safetensors.index.json") }) else { return }
    let stated = try SafetensorsIndex.read(from: store.open(index))
    // A single shard named by the user has the index beside it, but is not the whole model.
    guard Set(stated.shardNames) == Set(names) else { return }
    self.index = Index(weightMap: stated.weightMap, totalSize: stated.totalSize)
    orphanShards = listing.filter {
      $0.hasSuffix(".safetensors") && !names.contains($0) && !$0.hasPrefix(".")
    }
  }
}
