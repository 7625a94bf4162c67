internal import Checkpoint
internal import QuantizationRecipes
internal import TensorFormats

/// A source tensor as the planner sees it: what it is, and how its values are read.
struct SourceTensor {
  /// The tensor in the source.
  let tensor: Checkpoint.Tensor
  /// The scales to multiply with, for block-FP8.
  var scale: Checkpoint.Tensor?
  let role: TensorRole
  let layer: Int?
  /// Its name in a safetensors output; the source's own for other architectures.
  let safetensorsName: String
  /// Its name in a GGUF output; `nil` where the model has none for it.
  let ggufName: String?
  /// Which kind of instance it lives on when the model is cut.
  let side: ShardPlan.Part.Role
  /// Whether it belongs to the vision side, which GGUF keeps in a file of its own.
  let isVision: Bool
  /// Whether the outermost dimension counts experts.
  let isExpertStack: Bool
  /// The dimension that tensor parallelism cuts; `nil` for tensors that every rank needs whole.
  let tensorParallelAxis: Int?
}

/// A tensor, or a box of it, in one part of the output, with the format it will have.
struct PlacedTensor {
  var source: SourceTensor
  /// The index of the part.
  let part: Int
  /// The box, in each dimension.
  var origin: [Int]
  var extent: [Int]
  /// Which option cut it, and where; `nil` if none did.
  var cut: Cut?
  /// How it is stored, once the recipe has decided.
  var elementType: ElementType
  /// What of the box's elements it holds.
  var derivation = ShardPlan.Derivation.values
  /// Whether it is a block-FP8 weight with scales beside it.
  var isBlockFP8 = false
  /// Its name in the importance matrix, if that is used.
  var importance: String?

  /// Row-major, of what is stored.
  var shape: TensorShape {
    let box = TensorShape(extent)
    return derivation == .blockFP8Scales ? StorageFormat.tileScaleShape(of: box) ?? box : box
  }

  /// What it is for: scales are scales, whatever their weight is for.
  var role: TensorRole { derivation == .blockFP8Scales ? .scale : source.role }

  /// Its name in a safetensors output.
  var safetensorsName: String {
    derivation == .blockFP8Scales ? source.safetensorsName + SourceModel.scaleSuffix : source.safetensorsName
  }

  /// Whether the box is all of the tensor.
  var isWhole: Bool { extent == source.tensor.shape.dimensions }

  /// The whole tensor.
  init(_ source: SourceTensor, part: Int) {
    self.source = source
    self.part = part
    let dimensions = source.tensor.shape.dimensions
    origin = dimensions.map { _ in 0 }
    extent = dimensions
    elementType = source.tensor.elementType
  }

  /// The box as the plan describes it.
  var slice: ShardPlan.Slice {
    ShardPlan.Slice(
      tensor: source.tensor.name, file: source.tensor.file, offset: source.tensor.byteRange.lowerBound,
      elementType: source.tensor.elementType, shape: source.tensor.shape, origin: origin, extent: extent,
      scale: source.scale.map {
        ShardPlan.Scale(
          tensor: $0.name, file: $0.file, offset: $0.byteRange.lowerBound, elementType: $0.elementType,
          shape: $0.shape, tile: [StorageFormat.tileSide, StorageFormat.tileSide])
      })
  }

  /// The output tensor, at the place that a file's layout gives it.
  func tensor(named name: String, at bytes: Range<Int>) -> ShardPlan.Tensor {
    ShardPlan.Tensor(
      name: name, role: role, layer: source.layer, elementType: elementType, shape: shape,
      offset: bytes.lowerBound, bytes: bytes.count, source: slice, derivation: derivation,
      importance: importance)
  }

  /// Whether the output is read in the order of the source: by file, then by offset, then by where the box starts.
  static func inSourceOrder(_ a: PlacedTensor, _ b: PlacedTensor) -> Bool {
    let left = (a.source.tensor.file, a.source.tensor.byteRange.lowerBound)
    let right = (b.source.tensor.file, b.source.tensor.byteRange.lowerBound)
    return left != right ? left < right : a.safetensorsName < b.safetensorsName
  }
}
