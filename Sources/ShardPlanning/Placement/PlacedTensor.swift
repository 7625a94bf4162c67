internal import Checkpoint
internal import StoredWeights
internal import Quantization
internal import TensorFormats

/// A weight of the source as the planner sees it: what it is, and how it is stored.
struct SourceTensor {
  /// Its name in messages: the tensor's, or the published one if several weights are stored as one tensor.
  let name: String
  /// The tensors that hold it.
  let stored: StoredWeight
  /// Its values, row-major.
  let shape: TensorShape
  /// Its first row in the stored matrix: not 0 if several weights are stored as one.
  let firstRow: Int
  let role: TensorRole
  let layer: Int?
  /// Its name in a safetensors output; the source's own for other architectures.
  let safetensorsName: String
  /// Its name in a GGUF output; `nil` if there is none.
  let ggufName: String?
  /// Which side holds it when the model is partitioned.
  let side: PartRole
  /// Whether it belongs to the vision side, which GGUF keeps in a separate file.
  let isVision: Bool
  /// Whether the outermost dimension counts experts.
  let isExpertStack: Bool
  /// The dimension that tensor parallelism cuts; `nil` for tensors that every rank needs whole.
  let tensorParallelAxis: Int?
  /// How it is stored on disk, if its values are decoded from codes that can only be read:
  /// ``Checkpoint/Checkpoint/Derived``.
  var decoded: String?
  /// The type that published checkpoints store it in; `nil` outside known models.
  var publishedType: ElementType?
  /// Whether it is a convolution that GGUF's readers take in half precision, in files of half precision.
  var isHalfConvolution = false
  /// Whether engines load it as a linear layer that a scheme may quantise; in an unknown model, any matrix may be one.
  var isLinear = true
  /// Whether it is in a layer that predicts further tokens.
  var predicts = false
  /// Its position in source order, if derived; `nil` for where it is read.
  var place: Checkpoint.Derivation.LastOrigin?

  /// How its elements, or its codes, are stored.
  var elementType: ElementType { stored.codes.elementType }
  /// The scheme, if codes and scales are separate tensors.
  var scheme: StoredScheme? { stored.scheme }
  /// Whether its stored tensor holds other weights too.
  var isFused: Bool { shape != stored.shape }
  /// Whether its values depend on scales.
  var isScaled: Bool { stored.scheme != nil || stored.matrixScales != nil }
}

/// A weight, or a box of it, in one part of the output, with the format it will have.
struct PlacedTensor {
  let source: SourceTensor
  /// The index of the part.
  let part: Int
  /// Which elements of it.
  var box: TensorBox
  /// Which option cut it, and where; `nil` if none did.
  var cut: Cut?
  /// How it is converted.
  var treatment: Treatment

  /// The values, row-major.
  var shape: TensorShape { TensorShape(box.extent) }

  /// Whether the box is all of the weight.
  var isWhole: Bool { box.isWhole }

  /// The scheme it is stored in.
  var scheme: StoredScheme? { treatment.scheme }

  /// The whole weight.
  init(_ source: SourceTensor, part: Int) {
    self.source = source
    self.part = part
    box = TensorBox(wholeOf: source.shape)
    treatment = Treatment(keeping: source)
  }

  /// The box as the plan describes it: in the stored tensor, which may hold more than this weight.
  var slice: ShardPlan.Slice {
    let stored = source.stored
    var origin = box.origin
    if source.firstRow > 0 { origin[origin.count - 2] += source.firstRow }
    return ShardPlan.Slice(
      tensor: stored.codes.name, file: stored.codes.file, offset: stored.codes.byteRange.lowerBound,
      elementType: stored.codes.elementType, shape: stored.shape, origin: origin, extent: box.extent,
      scaling: source.isScaled
        ? ShardPlan.Scaling(
          scheme: stored.scheme, scales: stored.scales.map(ShardPlan.Scales.init),
          matrixScales: stored.matrixScales.map(ShardPlan.Scales.init)) : nil)
  }
}

extension ShardPlan.Scales {
  init(_ tensor: Checkpoint.Tensor) {
    self.init(
      tensor: tensor.name, file: tensor.file, offset: tensor.byteRange.lowerBound,
      elementType: tensor.elementType, shape: tensor.shape)
  }
}
