internal import StoredWeights
internal import Checkpoint
internal import Quantization
internal import ServingEngines
internal import TensorFormats

/// One tensor of one part, before it has a place in a file.
struct OutputTensor {
  /// As the plan will list it, with its name in a safetensors output, not yet at any offset.
  var tensor: ShardPlan.Tensor
  /// Its name in a GGUF output; `nil` if there is none.
  var ggufName: String?
  /// Whether it belongs to the vision side, which GGUF keeps in a separate file.
  let isVision: Bool
  /// Its position in source order, if not where it is read.
  let place: Checkpoint.Derivation.LastOrigin?

  /// The tensor at its place in a file's layout.
  func placed(as name: String, at bytes: Range<Int>) -> ShardPlan.Tensor {
    var tensor = tensor
    tensor.name = name
    (tensor.offset, tensor.bytes) = (bytes.lowerBound, bytes.count)
    return tensor
  }

  /// Whether the output is read in the order of the source: by file, then by offset, then by name.
  static func inSourceOrder(_ a: OutputTensor, _ b: OutputTensor) -> Bool {
    let (left, right) = (a.firstRead, b.firstRead)
    return left != right ? left < right : a.tensor.name < b.tensor.name
  }

  private var firstRead: (Int, Int) {
    if let place { return (place.file, place.end - 1) }
    return tensor.sources.map { ($0.file, $0.offset) }.min { $0 < $1 } ?? (0, 0)
  }
}

// MARK: - Values

extension OutputTensor {
  /// A weight's values or codes.
  init(_ placed: PlacedTensor) {
    let source = placed.source
    tensor = ShardPlan.Tensor(
      name: source.safetensorsName, role: source.role, layer: source.layer,
      elementType: placed.treatment.elementType, shape: placed.shape, offset: 0, bytes: 0,
      sources: [placed.slice], operation: placed.treatment.operation)
    ggufName = source.ggufName
    isVision = source.isVision
    place = source.place
  }

  /// The matrix scales that GGUF keeps beside blocks: `blk.4.ffn_up_exps.scale`; `nil` if there are none.
  ///
  /// Source: llama.cpp, which multiplies the product of an NVFP4 matrix by them.
  var matrixScalesBeside: OutputTensor? {
    guard !tensor.operation.decodes, tensor.source.scaling?.matrixScales != nil,
      let name = ggufName.flatMap(EngineModules.module)
    else { return nil }
    var scales = self
    scales.ggufName = name + ".scale"
    scales.tensor.role = .scale
    scales.tensor.elementType = .f32
    scales.tensor.shape = TensorShape([tensor.shape.rank == 3 ? tensor.shape.dimensions[0] : 1])
    scales.tensor.operation = .carry(.matrixScales, of: nil, scaleGroup: nil)
    return scales
  }
}

// MARK: - Components of schemes

extension OutputTensor {
  /// The tensors of a module that is stored in a scheme: one weight, or several that are one tensor there.
  ///
  /// - Parameters:
  ///   - module: The module's name, without a suffix.
  ///   - members: In row order, all stored alike in that scheme.
  ///   - scaleGroup: The number of the group that shares a scale per matrix, if the scheme has such scales.
  ///   - statesShape: Whether packed codes have their shape beside them.
  static func components(
    of module: String, _ members: [PlacedTensor], _ scheme: StoredScheme, scaleGroup: Int?, statesShape: Bool
  ) -> [OutputTensor] {
    let first = members[0]
    var dimensions = first.shape.dimensions
    if members.count > 1 {
      dimensions[dimensions.count - 2] = members.reduce(0) { $0 + $1.box.extent[dimensions.count - 2] }
    }
    guard let components = scheme.components(of: TensorShape(dimensions)) else { return [] }
    var codes = OutputTensor(first)
    codes.ggufName = nil
    codes.tensor.sources = joined(members.map(\.slice))
    let (stored, isKept) = (first.source.stored, first.treatment.isKept)
    return components.filter { statesShape || $0.part != .shape }.map { part, suffix, component in
      var output = codes
      output.tensor.name = "\(module).\(suffix)"
      output.tensor.elementType = component.elementType
      output.tensor.shape = component.shape
      output.tensor.operation = first.treatment.operation.making(part, of: scheme, scaleGroup: scaleGroup)
      if part != .codes { output.tensor.role = .scale }
      guard isKept else { return output }
      switch part {
      case .codes: output.tensor.name = stored.codes.name
      case .scales: output.keep(stored.scales)
      case .matrixScales: output.keep(stored.matrixScales)
      case .shape: break
      }
      return output
    }
  }

  /// Takes over the type and shape of the source's scale tensor.
  private mutating func keep(_ source: Checkpoint.Tensor?) {
    guard let source else { return }
    tensor.name = source.name
    tensor.elementType = source.elementType
    // One scale for each matrix is stored as `[E]`, `[E, 1, 1]` or, for a single one, without dimensions.
    if tensor.shape.elementCount == source.shape.elementCount { tensor.shape = source.shape }
    if source.shape.rank < tensor.shape.rank, tensor.shape.elementCount == tensor.shape.dimensions.first {
      tensor.shape = TensorShape([tensor.shape.elementCount])
    }
  }

  /// Merges adjacent boxes of one stored tensor.
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

extension ShardPlan.Operation {
  /// The operation for one of a module's tensors, given the one for its codes.
  fileprivate func making(_ part: StoredScheme.Part, of scheme: StoredScheme, scaleGroup: Int?) -> Self {
    switch (self, part) {
    case (_, .shape): return .shape(of: scheme)
    case (.encode(_, _, var encoding), _):
      encoding.scaleGroup = scaleGroup
      return .encode(part, of: scheme, encoding)
    case (_, .matrixScales): return .carry(part, of: scheme, scaleGroup: scaleGroup)
    case (.unpack, _): return .unpack(part, of: scheme)
    default: return .carry(part, of: scheme, scaleGroup: nil)
    }
  }
}
