internal import ModelWeights
internal import Checkpoint
internal import Quantization
internal import ServingEngines
internal import TensorFormats

/// One tensor of one part, before it has a place in a file.
struct OutputTensor {
  /// Its name in a safetensors output.
  var name: String
  /// Its name in a GGUF output; `nil` where the model has none for it.
  var ggufName: String?
  /// What it is for: scales are scales, whatever their weight is for.
  var role: TensorRole
  let layer: Int?
  let isVision: Bool
  var elementType: ElementType
  var shape: TensorShape
  var sources: [ShardPlan.Slice]
  var derivation = ShardPlan.Derivation.values
  var making: ShardPlan.Making
  var scheme: StoredScheme?
  var search: ScaleSearch?
  var scaleGroup: Int?
  var importance: String?

  /// The output tensor, at the place that a file's layout gives it.
  func tensor(named name: String, at bytes: Range<Int>) -> ShardPlan.Tensor {
    ShardPlan.Tensor(
      name: name, role: role, layer: layer, elementType: elementType, shape: shape, offset: bytes.lowerBound,
      bytes: bytes.count, sources: sources, derivation: derivation, making: making, scheme: scheme,
      search: search, scaleGroup: scaleGroup, importance: importance)
  }

  /// Whether the output is read in the order of the source: by file, then by offset, then by name.
  static func inSourceOrder(_ a: OutputTensor, _ b: OutputTensor) -> Bool {
    let (left, right) = (a.firstRead, b.firstRead)
    return left != right ? left < right : a.name < b.name
  }

  private var firstRead: (Int, Int) {
    sources.map { ($0.file, $0.offset) }.min { $0 < $1 } ?? (0, 0)
  }
}

// MARK: - Values

extension OutputTensor {
  /// A weight that is one tensor.
  init(_ placed: PlacedTensor, as type: ElementType, _ making: ShardPlan.Making) {
    let source = placed.source
    name = source.safetensorsName
    ggufName = source.ggufName
    role = source.role
    layer = source.layer
    isVision = source.isVision
    elementType = type
    shape = placed.shape
    sources = [placed.slice]
    self.making = making
    importance = placed.importance
  }

  /// The scales of whole matrices that GGUF keeps beside blocks: `blk.4.ffn_up_exps.scale`; `nil` if there are none.
  ///
  /// Source: llama.cpp, which multiplies the product of an NVFP4 matrix with them.
  static func matrixScales(beside blocks: OutputTensor) -> OutputTensor? {
    guard blocks.making != .encode, blocks.sources[0].scaling?.matrixScales != nil,
      let name = blocks.ggufName.flatMap(EngineModules.module)
    else { return nil }
    var scales = blocks
    scales.ggufName = name + ".scale"
    scales.role = .scale
    scales.elementType = .f32
    scales.shape = TensorShape([blocks.shape.rank == 3 ? blocks.shape.dimensions[0] : 1])
    scales.derivation = .matrixScales
    scales.importance = nil
    let divides = blocks.sources[0].scaling?.scheme?.dividesByMatrixScale == true
    scales.making = divides ? .repack : .copy
    return scales
  }
}

// MARK: - Components of schemes

extension OutputTensor {
  /// The tensors of a module that is stored in a scheme: one weight, or several that are one tensor there.
  ///
  /// - Parameters:
  ///   - module: The module's name, without a suffix.
  ///   - members: In the order of their rows.
  ///   - scaleGroup: The number of the group that shares a scale per matrix, if the scheme has such scales.
  ///   - statesShape: Whether packed codes have their shape beside them.
  static func components(
    of module: String, _ members: [PlacedTensor], _ scheme: StoredScheme, _ making: ShardPlan.Making,
    isKept: Bool, scaleGroup: Int?, statesShape: Bool
  ) -> [OutputTensor] {
    let first = members[0]
    var dimensions = first.extent
    if members.count > 1 {
      dimensions[dimensions.count - 2] = members.reduce(0) { $0 + $1.extent[dimensions.count - 2] }
    }
    let slices = joined(members.map(\.slice))
    guard let components = scheme.components(of: TensorShape(dimensions)) else { return [] }
    return components.filter { statesShape || $0.part != .shape }.map { part, suffix, component in
      var tensor = OutputTensor(first, as: component.elementType, making)
      tensor.name = "\(module).\(suffix)"
      tensor.ggufName = nil
      tensor.shape = component.shape
      tensor.sources = slices
      tensor.scheme = scheme
      tensor.derivation = ShardPlan.Derivation(part)
      if part != .codes { tensor.role = .scale }
      if making == .encode, part == .codes || part == .scales {
        // They are made together.
        tensor.search = first.search
        tensor.scaleGroup = scaleGroup
      } else {
        tensor.importance = nil
      }
      switch part {
      case .codes: if isKept { tensor.name = first.source.stored.codes.name }
      case .scales: tensor.take(first.source.stored.scales, isKept: isKept)
      case .matrixScales:
        tensor.scaleGroup = scaleGroup
        tensor.take(first.source.stored.matrixScales, isKept: isKept)
      case .shape: tensor.making = .encode
      }
      return tensor
    }
  }

  /// Takes over what the source's tensor is like, as far as that is wanted.
  private mutating func take(_ source: Checkpoint.Tensor?, isKept: Bool) {
    guard making != .encode else { return }
    guard let source else {
      making = .repack
      return
    }
    guard isKept else {
      if making == .copy, source.elementType != elementType { making = .repack }
      return
    }
    name = source.name
    elementType = source.elementType
    // One scale for each matrix is stored as `[E]`, `[E, 1, 1]` or, for a single one, without dimensions.
    if shape.elementCount == source.shape.elementCount { shape = source.shape }
    if source.shape.rank < shape.rank, shape.elementCount == shape.dimensions.first {
      shape = TensorShape([shape.elementCount])
    }
  }

  /// Boxes that follow each other in one stored tensor are one box.
  private static func joined(_ slices: [ShardPlan.Slice]) -> [ShardPlan.Slice] {
    var result: [ShardPlan.Slice] = []
    for slice in slices {
      let axis = slice.origin.count - 2
      if let last = result.last, last.tensor == slice.tensor,
        last.origin[axis] + last.extent[axis] == slice.origin[axis]
      {
        result[result.count - 1].extent[axis] += slice.extent[axis]
      } else {
        result.append(slice)
      }
    }
    return result
  }
}

extension ShardPlan.Derivation {
  fileprivate init(_ part: StoredScheme.Part) {
    self =
      switch part {
      case .codes: .codes
      case .scales: .scales
      case .matrixScales: .matrixScales
      case .shape: .shape
      }
  }
}
