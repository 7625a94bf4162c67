internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import QuantizationRecipes
internal import Step3Model
internal import TensorFormats

/// The source with everything that is known about its model: what each tensor is, and which belong together.
///
/// A model that is not known converts too, as long as nothing has to be known: its tensors keep their names.
struct SourceModel {
  let checkpoint: Checkpoint
  /// The configuration, if the model is a Step-3.
  let step3: Step3Configuration?
  /// Every tensor except the scales of block-FP8 weights, in the order of the source.
  let tensors: [SourceTensor]
  /// The scales of block-FP8 weights, by the name of the weight.
  let scales: [String: SourceTensor]

  var layerCount: Int { step3?.text.layerCount ?? (tensors.compactMap(\.layer).max() ?? -1) + 1 }
  var expertCount: Int { step3?.text.expertCount ?? 0 }
  var hasTiedEmbedding: Bool { !tensors.contains { $0.role == .lmHead } }

  /// The suffix that block-FP8 scales have in Hugging Face checkpoints.
  static let scaleSuffix = "_scale_inv"

  init(_ checkpoint: Checkpoint, router: Step3Placement.RouterSide) throws(CheckpointError) {
    self.checkpoint = checkpoint
    step3 = try Step3Configuration(of: checkpoint)
    let placement = Step3Placement(router: router)
    var tensors: [SourceTensor] = []
    var scales: [String: SourceTensor] = [:]
    for tensor in checkpoint.tensors {
      let weight =
        tensor.name.hasSuffix(Self.scaleSuffix) ? String(tensor.name.dropLast(Self.scaleSuffix.count)) : ""
      let isScale = checkpoint[weight]?.elementType == .f8E4M3
      let scale = tensor.elementType == .f8E4M3 ? checkpoint[tensor.name + Self.scaleSuffix] : nil
      let source = Self.describe(tensor, scale: scale, in: checkpoint, step3: step3, placement)
      if isScale { scales[weight] = source } else { tensors.append(source) }
      if let scale { try Self.check(scale, against: tensor) }
    }
    self.tensors = tensors
    self.scales = scales
  }

  private static func describe(
    _ tensor: Checkpoint.Tensor, scale: Checkpoint.Tensor?, in checkpoint: Checkpoint,
    step3: Step3Configuration?,
    _ placement: Step3Placement
  ) -> SourceTensor {
    let isGGUF = checkpoint.format == .gguf
    guard step3 != nil,
      let name = isGGUF ? Step3TensorName(gguf: tensor.name) : Step3TensorName(huggingFace: tensor.name)
    else {
      let description = TensorDescription(name: tensor.name)
      return SourceTensor(
        tensor: tensor, scale: scale, role: description.role, layer: description.layer,
        safetensorsName: tensor.name, ggufName: isGGUF ? tensor.name : nil, side: .model,
        isVision: checkpoint.files[tensor.file].isVisionCompanion, isExpertStack: false,
        tensorParallelAxis: nil)
    }
    let side: ShardPlan.Part.Role =
      switch placement.side(of: name) {
      case .attention: .attention
      case .ffn: .ffn
      case .vision: .vision
      }
    return SourceTensor(
      tensor: tensor, scale: scale, role: name.role, layer: name.layer, safetensorsName: name.huggingFace,
      ggufName: name.gguf, side: side, isVision: name.module.isVision,
      isExpertStack: Step3Placement.expertParallelAxis(of: name.module) != nil,
      tensorParallelAxis: Step3Placement.tensorParallelAxis(of: name.module))
  }

  /// Scales must be what they are taken for before anything is multiplied with them.
  private static func check(
    _ scale: Checkpoint.Tensor, against weight: Checkpoint.Tensor
  ) throws(CheckpointError) {
    let side = StorageFormat.tileSide
    var expected = weight.shape.dimensions
    for axis in expected.indices.suffix(2) { expected[axis] = (expected[axis] + side - 1) / side }
    guard weight.shape.rank >= 2, scale.shape.dimensions == expected else {
      throw CheckpointError(
        .malformed,
        "its scales have shape \(scale.shape); one for each tile of \(side) x \(side) would be \(expected)",
        tensor: weight.name)
    }
    guard scale.elementType == .f32 || scale.elementType == .bf16 else {
      throw CheckpointError(
        .unsupported, "its scales are \(scale.elementType), neither F32 nor BF16", tensor: weight.name)
    }
  }
}

// MARK: - What can be asked of it

extension SourceModel {
  /// Refuses requests that need knowledge of a model that is not known.
  func check(_ request: ShardPlan.Request) throws(CheckpointError) {
    if request.partition != .none, let text = checkpoint.configuration,
      try ConfigurationText(text)[OutputPart.partitionKey] != nil
    {
      throw CheckpointError(
        .unsupported, "this is one part of a partitioned model already", path: checkpoint.path,
        remedy: "partition the checkpoint it was made from, or convert the part without --partition")
    }
    guard step3 == nil else { return }
    let name = checkpoint.architecture ?? "this model"
    if request.partition != .none {
      throw CheckpointError(
        .unsupported,
        "\(name) is not a Step-3: which of its tensors belong to attention and which to the FFN is not known",
        path: checkpoint.path, remedy: "convert it without --partition")
    }
    if request.format != checkpoint.format {
      throw CheckpointError(
        .unsupported,
        "\(name) is not a Step-3: its tensors have no known names in \(request.format == .gguf ? "GGUF" : "safetensors")",
        path: checkpoint.path, remedy: "convert it to \(checkpoint.format.rawValue)")
    }
  }

  /// Adds the scales of block-FP8 weights that stay FP8, cut like their weights; the others become part of the values.
  func settleScales(
    _ placed: [PlacedTensor]
  ) throws(CheckpointError) -> (tensors: [PlacedTensor], absorbed: [ShardPlan.Absorption]) {
    var tensors: [PlacedTensor] = []
    var kept: Set<String> = []
    for var weight in placed {
      if weight.derivation == .blockFP8Codes {
        weight.isBlockFP8 = true
        var scales = weight
        scales.derivation = .blockFP8Scales
        scales.elementType = .f32
        tensors += [weight, scales]
      } else if let scale = scales[weight.source.tensor.name], weight.elementType == .f8E4M3 {
        kept.insert(weight.source.tensor.name)
        weight.source.scale = nil
        weight.isBlockFP8 = true
        tensors += [weight, try self.scale(scale, of: weight)]
      } else {
        tensors.append(weight)
      }
    }
    let absorbed = scales.filter { !kept.contains($0.key) }.map {
      ShardPlan.Absorption(
        tensor: $0.value.tensor.name, reason: "block-FP8 scales are multiplied into the weights")
    }
    return (tensors, absorbed.sorted { $0.tensor < $1.tensor })
  }

  /// The box of scales that belongs to a box of a weight. It must begin and end with a tile.
  private func scale(_ scale: SourceTensor, of weight: PlacedTensor) throws(CheckpointError) -> PlacedTensor {
    var placed = PlacedTensor(scale, part: weight.part)
    let side = StorageFormat.tileSide
    let dimensions = weight.source.tensor.shape.dimensions
    if let inside = weight.cutInsideTile {
      let choices = weight.cut.map { weight.choices($0, unit: side) }
      throw CheckpointError(
        .invalidRequest, inside, tensor: weight.source.tensor.name,
        remedy: (choices.map { $0 + "; or " } ?? "") + "convert to BF16")
    }
    for axis in dimensions.indices {
      let tile = axis >= dimensions.count - 2 ? side : 1
      placed.origin[axis] = weight.origin[axis] / tile
      placed.extent[axis] =
        (weight.origin[axis] + weight.extent[axis] + tile - 1) / tile - placed.origin[axis]
    }
    return placed
  }

  /// Scales that stay tensors are replicated with their weights.
  func withScales(
    _ replicated: [ShardPlan.Replication], absorbed: [ShardPlan.Absorption]
  ) -> [ShardPlan.Replication] {
    let gone = Set(absorbed.map(\.tensor))
    return replicated.flatMap { weight in
      guard let scale = scales[weight.tensor]?.tensor.name, !gone.contains(scale) else { return [weight] }
      return [
        weight,
        ShardPlan.Replication(tensor: scale, parts: weight.parts, reason: "it is where its weight is"),
      ]
    }
  }
}

// MARK: - What lies beside the weights

extension SourceModel {
  /// The tokenizer, where the output cannot just have the files that the source has: GGUF states it in its metadata.
  func tokenizer(for request: ShardPlan.Request) throws(CheckpointError) -> Step3Tokenizer? {
    guard let step3, request.format != checkpoint.format else { return nil }
    if let metadata = checkpoint.ggufMetadata { return try Step3Tokenizer(metadata: metadata) }
    guard let text = try companion("tokenizer.json") else { return nil }
    do throws(CheckpointError) {
      return try Step3Tokenizer(
        tokenizerJSON: text, tokenizerConfigJSON: try companion("tokenizer_config.json"),
        generationConfigJSON: try companion("generation_config.json"), configuration: step3)
    } catch {
      throw error.at(path: "\(checkpoint.directory)/tokenizer.json")
    }
  }

  private func companion(_ name: String) throws(CheckpointError) -> [UInt8]? {
    let path = "\(checkpoint.directory)/\(name)"
    guard FileSystem.kind(of: path) == .file else { return nil }
    let file = try InputFile(path)
    guard file.byteCount <= OutputMarkers.largestTextFile else {
      throw CheckpointError(.malformed, "\(file.byteCount) bytes are too many for such a file", path: path)
    }
    return try file.readBytes(0..<file.byteCount)
  }
}
