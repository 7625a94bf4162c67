internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import JSON
internal import StoredWeights
internal import QuantizationRecipes
internal import Step3Model
internal import TensorFormats

/// The source with everything known about its model: what each weight is, and how it is stored.
///
/// An unknown model can be converted too, as long as no knowledge is needed: its tensors keep their names.
struct SourceModel {
  let checkpoint: Checkpoint
  /// The configuration, if the model is in the family.
  let step3: Step3Configuration?
  /// Every weight, in the order of the source.
  let tensors: [SourceTensor]
  /// The tensors that only say how to read weights: scales, shapes.
  let companions: [Checkpoint.Tensor]

  /// Whether its tensors are copied without interpretation.
  let isRaw: Bool
  /// Whether this is one part of a partition set.
  let isPart: Bool
  /// The folder of the source's store that the files beside the weights are in; empty for the store itself.
  let sideDirectory: String
  /// Whether the configuration's quantisation settings cover the whole source.
  let isQuantizationStated: Bool

  /// Where the tokenizer is.
  var sideStore: any ByteStore { checkpoint.store.folder(sideDirectory) }

  var layerCount: Int { step3?.text.layerCount ?? (tensors.compactMap(\.layer).max() ?? -1) + 1 }
  var expertCount: Int { step3?.text.expertCount ?? 0 }
  var hasTiedEmbedding: Bool { !tensors.contains { $0.role == .lmHead } }
  /// Whether some of its weights have separate scale tensors, or had them on disk.
  var isQuantized: Bool { tensors.contains { $0.scheme != nil || $0.decoded != nil } }
  /// Whether the configuration says that the output projection is the embedding.
  var saysTied: Bool {
    checkpoint.configurationMembers?["tie_word_embeddings"] == .bool(true)
  }

  /// Takes every tensor as stored, under its own name: a copy requires no interpretation.
  init(raw checkpoint: Checkpoint, sideDirectory: String) {
    self.checkpoint = checkpoint
    self.sideDirectory = sideDirectory
    isRaw = true
    isQuantizationStated = true
    isPart = false
    step3 = nil
    let isGGUF = checkpoint.format == .gguf
    tensors = checkpoint.tensors.map { tensor in
      let description = TensorDescription(name: tensor.name)
      return SourceTensor(
        name: tensor.name, stored: StoredWeight(values: tensor), shape: tensor.shape, firstRow: 0,
        role: description.role, layer: description.layer, safetensorsName: tensor.name,
        ggufName: isGGUF ? tensor.name : nil, side: .model,
        isVision: checkpoint.files[tensor.file].isVisionCompanion, isExpertStack: false,
        tensorParallelAxis: nil)
    }
    companions = []
  }

  /// Finds out what every weight is.
  ///
  /// - Parameter format: The output's format, whose conventions some values are converted to.
  /// - Throws: `.unsupported` for unknown codes, `.malformed` for a broken configuration.
  init(
    _ source: Checkpoint, writtenAs format: Checkpoint.Format, router: RouterSide, sideDirectory: String,
    isQuantizationStated: Bool = true
  ) throws(CheckpointError) {
    self.isQuantizationStated = isQuantizationStated
    var weights = try ModelWeights(source)
    if let changed = try GGUFValues.checkpoint(of: weights, writtenAs: format) {
      weights = try ModelWeights(changed, configuration: weights.configuration)
    }
    let checkpoint = weights.checkpoint
    self.checkpoint = checkpoint
    self.sideDirectory = sideDirectory
    isRaw = false
    isPart = weights.isPart
    step3 = weights.configuration
    var tensors: [SourceTensor] = []
    var codes: Set<String> = []
    for name in weights.names {
      guard let weight = weights[name], let piece = weight.pieces.first else { continue }
      codes.insert(piece.stored.codes.name)
      tensors.append(Self.describe(name, piece, in: checkpoint, step3: step3, router))
    }
    self.tensors = tensors
    companions = checkpoint.tensors.filter { !codes.contains($0.name) }
  }

  private static func describe(
    _ name: String, _ piece: ModelWeights.Piece, in checkpoint: Checkpoint, step3: Step3Configuration?,
    _ router: RouterSide
  ) -> SourceTensor {
    let isGGUF = checkpoint.format == .gguf
    let codes = piece.stored.codes
    // In a part of a partition this is the part's share.
    let shape = TensorShape(piece.box.extent)
    let own = shape == piece.stored.shape ? codes.name : name
    let derivation = checkpoint.files[codes.file].derivations.first { $0.name == codes.name }
    let decoded = derivation.flatMap { $0.operation.hasPrefix("decoded") ? $0.operation : nil }
    guard let step3, case let model = step3.family.model, let known = model.tensor(published: name) else {
      let description = TensorDescription(name: name)
      return SourceTensor(
        name: own, stored: piece.stored, shape: shape, firstRow: piece.firstRow, role: description.role,
        layer: description.layer, safetensorsName: name, ggufName: isGGUF ? codes.name : nil, side: .model,
        isVision: checkpoint.files[codes.file].isVisionCompanion, isExpertStack: false,
        tensorParallelAxis: nil, decoded: decoded)
    }
    let row = model.row(of: known)
    return SourceTensor(
      name: own, stored: piece.stored, shape: shape, firstRow: piece.firstRow, role: model.role(of: known),
      layer: known.layer, safetensorsName: model.published(known),
      // GGUF has no names for separate scale tensors; a GGUF source keeps its own names.
      ggufName: isGGUF ? codes.name : (known.suffix.isScale ? nil : model.gguf(known)),
      side: model.side(of: known, router: router), isVision: row.isVision,
      isExpertStack: row.expertAxis != nil,
      tensorParallelAxis: row.tensorParallelAxis, decoded: decoded, publishedType: row.elementType,
      isHalfConvolution: row.isVision && model.family != .step3,
      isLinear: step3.isLinear(known), predicts: step3.predicts(known),
      place: row.offset != 0 || known.module == .rotaryFactors ? derivation?.lastOrigin : nil)
  }
}

// MARK: - Checking requests

extension SourceModel {
  /// Refuses requests that need knowledge of an unknown model or of unknown tensors.
  func check(_ request: ShardPlan.Request) throws(CheckpointError) {
    if request.partition != .none, checkpoint.configurationDocument?.isPart == true {
      throw CheckpointError(
        .unsupported, "this is already one part of a partitioned model", path: checkpoint.path,
        remedy: "partition the checkpoint it was made from, or convert the part without --partition")
    }
    if let step3 {
      if request.format == .gguf, checkpoint.format != .gguf, let obstacle = step3.ggufObstacle {
        throw CheckpointError(
          .unsupported, "\(step3.family.name) cannot be written as GGUF: \(obstacle)", path: checkpoint.path,
          remedy: "convert it to safetensors")
      }
      return try checkPlaces(request)
    }
    guard !isRaw else { return }
    let name = checkpoint.architecture?.printable ?? "this model"
    if request.partition != .none {
      throw CheckpointError(
        .unsupported,
        "\(name) is not a model of the Step family: it is not known which of its tensors belong to attention and which to the FFN",
        path: checkpoint.path, remedy: "convert it without --partition")
    }
    if request.format != checkpoint.format {
      throw CheckpointError(
        .unsupported,
        "\(name) is not a model of the Step family: its tensors have no known names in \(request.format == .gguf ? "GGUF" : "safetensors")",
        path: checkpoint.path, remedy: "convert it to \(checkpoint.format.rawValue)")
    }
  }

  /// A tensor whose side is unknown is never assigned to one by default.
  private func checkPlaces(_ request: ShardPlan.Request) throws(CheckpointError) {
    guard request.partition != .none else { return }
    let model = step3?.family.model
    let strangers = tensors.filter { model?.tensor(published: $0.safetensorsName) == nil }
    guard let first = strangers.first else { return }
    let names = strangers.prefix(4).map(\.name.printable).joined(separator: ", ")
    throw CheckpointError(
      .unsupported,
      "it is not known which side of the partition \(strangers.count == 1 ? "it belongs" : "\(strangers.count) tensors belong") to"
        + (strangers.count == 1 ? "" : ": \(names)\(strangers.count > 4 ? ", ..." : "")"),
      path: checkpoint.path(of: first.stored.codes), tensor: first.name,
      remedy:
        "leave \(strangers.count == 1 ? "it" : "them") out with --exclude, or convert without --partition")
  }
}
