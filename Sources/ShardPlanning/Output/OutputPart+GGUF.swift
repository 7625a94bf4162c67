internal import Checkpoint
internal import GGUF
internal import Step3Model
internal import TensorFormats
internal import Tokenization

extension OutputPart {
  /// The language model's file (or split set), and the vision side's, which is never split: its readers look for one
  /// file.
  func ggufFiles(
    _ part: ShardPlan.Part, headers: inout [String: [UInt8]]
  ) throws(CheckpointError) -> [ShardPlan.File] {
    let language = tensors.filter { !$0.isVision }
    let vision = tensors.filter(\.isVision)
    var files: [ShardPlan.File] = []
    if !language.isEmpty {
      files += try pack(language, "model", languageMetadata(part, language), part, &headers)
    }
    if !vision.isEmpty {
      files += try pack(vision, "mmproj", visionMetadata(vision[0]), part, &headers)
    }
    return files
  }

  /// A GGUF source's metadata is kept, except how it is split and stored.
  private func languageMetadata(_ part: ShardPlan.Part, _ tensors: [OutputTensor]) -> GGUFMetadata {
    var metadata: GGUFMetadata
    if let own = model.checkpoint.ggufMetadata {
      metadata = own
    } else if let step3 = model.step3 {
      let predicts = tensors.contains { ($0.tensor.layer ?? 0) >= step3.text.layerCount }
      metadata = step3.ggufMetadata(name: step3.family.name, fileType: nil, withPrediction: predicts)
      if servesText(part) { tokenizer?.write(to: &metadata, likeConverter: step3.family != .step3) }
    } else {
      metadata = GGUFMetadata()
    }
    if part.role != .model { metadata.set(identity(of: part)) }
    return metadata
  }

  private func visionMetadata(_ tensor: OutputTensor) throws(CheckpointError) -> GGUFMetadata {
    if let own = model.checkpoint.files.first(where: \.isVisionCompanion)?.ggufMetadata { return own }
    guard
      let metadata = model.step3.flatMap({
        $0.visionGGUFMetadata(name: "\($0.family.name) vision", fileType: nil)
      })
    else {
      throw CheckpointError(
        .malformed, "the checkpoint has vision tensors, but its configuration has no vision_config",
        path: model.checkpoint.path, tensor: tensor.tensor.source.tensor)
    }
    return metadata
  }

  private func pack(
    _ tensors: [OutputTensor], _ name: String, _ metadata: GGUFMetadata, _ part: ShardPlan.Part,
    _ headers: inout [String: [UInt8]]
  ) throws(CheckpointError) -> [ShardPlan.File] {
    var metadata = metadata
    for key in [GGUFSplitKey.index, GGUFSplitKey.count, GGUFSplitKey.tensorCount] { metadata.remove(key) }
    let isCopy = model.checkpoint.format == .gguf && tensors.allSatisfy(\.tensor.isCopy)
    if let type = fileType(tensors) {
      if !isCopy || metadata[GGUFFileType.key] == nil {
        metadata.set(GGUFFileType.key, .uint32(type.rawValue))
      }
    } else if !isCopy {
      metadata.remove(GGUFFileType.key)
    }
    return try GGUFPacking.pack(
      tensors, fileName: name, metadata: metadata, directory: part.directory,
      maximumBytes: tensors.contains(where: \.isVision) ? nil : request.maximumShardBytes,
      headers: &headers)
  }

  /// The recipe's file type if GGUF has a number for it, otherwise the type of most matrix elements.
  private func fileType(_ tensors: [OutputTensor]) -> GGUFFileType? {
    var counts: [ElementType: Int] = [:]
    for tensor in tensors.map(\.tensor) where tensor.shape.rank >= 2 {
      counts[tensor.elementType, default: 0] += tensor.shape.elementCount
    }
    let most = counts.max { ($0.value, $1.key.rawValue) < ($1.value, $0.key.rawValue) }?.key.rawValue
    // The recipe's name does not describe the vision side.
    let isVision = tensors.first?.isVision == true
    // Plain types that llama.cpp's converter writes have its names.
    let isNamedByRecipe =
      model.step3.map { $0.family != .step3 } == true && ["BF16", "F16", "F32"].contains(request.recipe)
    if !isVision || isNamedByRecipe, let type = GGUFFileType(name: request.recipe) { return type }
    guard let most else { return nil }
    // Only mixtures of K formats have numbers; the small one is nearly all in that format.
    return GGUFFileType(name: most) ?? GGUFFileType(name: "\(most)_S")
  }
}
