internal import ByteStreams
public import Checkpoint
internal import Safetensors
internal import Step3Model
public import TensorFormats

extension EngineSubject {
  /// What a loader would see of a checkpoint on disk.
  ///
  /// - Throws: What reading the index throws.
  /// - Complexity: Proportional to the headers and the index; no tensor is read.
  public init(_ checkpoint: Checkpoint) throws(CheckpointError) {
    let names = checkpoint.files.map(\.name)
    let tensors = checkpoint.tensors.map {
      Tensor(name: $0.name, elementType: $0.elementType, shape: $0.shape, file: names[$0.file])
    }
    self.init(
      path: checkpoint.path, isGGUF: checkpoint.format == .gguf,
      ggufArchitecture: checkpoint.format == .gguf ? checkpoint.architecture : nil,
      isPartition: !checkpoint.parts.isEmpty || Self.isPart(checkpoint.configuration), tensors: tensors,
      // The eight bytes in front say how long the header is.
      files: checkpoint.files.map { File(name: $0.name, headerByteCount: max(0, $0.dataOffset - 8)) },
      configuration: checkpoint.configuration,
      read: { tensor throws(CheckpointError) in
        guard let found = checkpoint[tensor.name] else {
          throw CheckpointError(.notFound, "is not in the checkpoint", tensor: tensor.name)
        }
        return try checkpoint.files[found.file].source.readBytes(found.byteRange)
      })
    guard checkpoint.format == .safetensors, checkpoint.parts.isEmpty else { return }
    if let file = try? InputFile("\(checkpoint.directory)/hf_quant_config.json"),
      file.byteCount <= JSONValue.largestDocument
    {
      modelOptConfiguration = try file.readBytes(0..<file.byteCount)
    }
    let listing = try FileSystem.names(in: checkpoint.directory).sorted { $0.precedesBytewise($1) }
    guard let index = listing.first(where: { $0.hasSuffix(".safetensors.index.json") }) else { return }
    let stated = try SafetensorsIndex.read(from: InputFile("\(checkpoint.directory)/\(index)"))
    // A single shard that the user named has the index beside it, but is not all of the model.
    guard Set(stated.shardNames) == Set(names) else { return }
    self.index = Index(weightMap: stated.weightMap, totalSize: stated.totalSize)
    orphanShards = listing.filter {
      $0.hasSuffix(".safetensors") && !names.contains($0) && !$0.hasPrefix(".")
    }
  }

  /// Whether a configuration is that of one part of a partitioned model.
  private static func isPart(_ configuration: [UInt8]?) -> Bool {
    guard let configuration, let value = try? JSONValue.parse(configuration, name: "config.json"),
      case .object(let members) = value
    else { return false }
    return members["step3_partition"] != nil
  }
}
