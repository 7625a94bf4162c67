internal import Quantization
internal import TensorFormats

/// Checks that the operation of one tensor can be done on its sources, and gives a tensor of its type, shape and size.
struct OperationCheck {
  private let tensor: ShardPlan.Tensor
  private let groups: [ShardPlan.ScaleGroup]
  private var source: ShardPlan.Slice { tensor.source }
  private var scheme: StoredScheme? { source.scaling?.scheme }

  /// - Parameter tensor: Its boxes lie in their tensors, and there is at least one.
  init(_ tensor: ShardPlan.Tensor, groups: [ShardPlan.ScaleGroup]) {
    self.tensor = tensor
    self.groups = groups
  }

  /// - Throws: `.malformed` or `.unsupported` with what is wrong.
  func run() throws(CheckpointError) {
    try check(
      tensor.shape.byteCount(as: tensor.elementType) == tensor.bytes,
      "\(tensor.elementType) \(tensor.shape) does not take \(tensor.bytes) bytes")
    switch tensor.operation {
    case .copy:
      try checkValues()
      try check(
        scheme == nil && tensor.elementType == source.elementType,
        "a copy of \(words(source)) is not \(tensor.elementType)")
      try checkBlocks(source.elementType.block.elements)
    case .convert(let importance):
      try checkValues()
      try source.checkDecodable()
      if scheme == nil { try checkBlocks(source.elementType.block.elements) }
      guard let codec = BlockCodec.codec(for: tensor.elementType), codec.canEncode else {
        throw CheckpointError(.unsupported, "\(tensor.elementType) cannot be written")
      }
      if case .required = codec.importanceUse {
        try check(importance != nil, "\(tensor.elementType) cannot be encoded without an importance matrix")
      }
      try checkImportance(importance)
    case .pack:
      try checkValues()
      switch (scheme?.scheme, tensor.elementType) {
      case (.mxfp4, .mxfp4), (.nvfp4, .nvfp4): break
      default: throw mismatch
      }
      try checkBlocks(tensor.elementType.block.elements)
    case .encode(let part, let stored, let encoding):
      try checkPart(part, of: stored)
      for slice in tensor.sources { try slice.checkDecodable() }
      if stored.scheme != .fp8Tiles { _ = try RowScheme(stored) }
      if scheme == nil { try checkBlocks(source.elementType.block.elements) }
      try checkCuts(stored)
      let hasScale = stored.scheme.geometry.hasMatrixScale
      try check(
        hasScale == (encoding.scaleGroup != nil),
        hasScale ? "no scale group is named" : "\(stored.scheme) has no scale groups")
      try checkGroup(encoding.scaleGroup)
      try checkImportance(encoding.importance)
    case .unpack(let part, let stored):
      try checkPart(part, of: stored)
      switch (scheme == nil ? source.elementType : nil, stored.scheme) {
      case (.mxfp4, .mxfp4), (.nvfp4, .nvfp4): break
      default: throw mismatch
      }
      try check(part != .matrixScales && tensor.sources.count == 1, "blocks have no \(part.rawValue) in them")
      try checkBlocks(source.elementType.block.elements)
    case .carry(let part, let stored, let group): try checkCarried(part, stored, group)
    case .shape(let stored): try checkPart(.shape, of: stored)
    }
  }

  private func check(_ holds: Bool, _ message: @autoclosure () -> String) throws(CheckpointError) {
    guard holds else { throw CheckpointError(.malformed, message()) }
  }

  private var mismatch: CheckpointError {
    let target = tensor.operation.scheme.map { "\($0.scheme)" } ?? "\(tensor.elementType)"
    return CheckpointError(.malformed, "the codes of \(words(source)) are not those of \(target)")
  }

  private func words(_ slice: ShardPlan.Slice) -> String {
    slice.scaling?.scheme.map { "\($0.scheme)" } ?? "\(slice.elementType)"
  }
}

// MARK: - Shapes

extension OperationCheck {
  /// A single box, all of whose elements are in the tensor.
  private func checkValues() throws(CheckpointError) {
    try check(tensor.sources.count == 1, "it has the values of \(tensor.sources.count) boxes")
    try check(
      tensor.shape.dimensions == source.extent,
      "the box of \(source.extent) elements is not a \(tensor.shape)")
  }

  /// Refuses cuts inside blocks.
  private func checkBlocks(_ elements: Int) throws(CheckpointError) {
    for slice in tensor.sources where !slice.isWhole {
      try check(
        (slice.origin.last ?? 0) % elements == 0 && (slice.extent.last ?? 0) % elements == 0,
        "the box begins or ends inside a block of \(elements)")
    }
  }

  /// Boxes can have their own scales only if they start on a group or tile boundary.
  private func checkCuts(_ stored: StoredScheme) throws(CheckpointError) {
    let unit = stored.scheme.geometry.cutUnit
    for slice in tensor.sources where slice.origin.count >= 2 {
      try check(
        slice.origin[slice.origin.count - 2] % unit.rows == 0
          && slice.origin[slice.origin.count - 1] % unit.columns == 0,
        "the box begins inside a group or tile of \(stored.scheme)")
    }
  }

  /// The tensor for one part of a scheme, over all boxes.
  private func component(
    _ part: StoredScheme.Part, of stored: StoredScheme
  ) throws(CheckpointError) -> WeightScheme.Component {
    var dimensions = source.extent
    let height = stored.scheme.geometry.scaleHeight
    try check((2...3).contains(dimensions.count), "\(stored.scheme) stores matrices")
    try check(tensor.sources.count == 1 || dimensions.count == 2, "stacks of matrices are joined")
    for slice in tensor.sources.dropFirst() {
      try check(
        slice.extent.count == 2 && slice.extent[1] == dimensions[1], "boxes of different widths are joined")
      try check(dimensions[0] % height == 0, "boxes are joined inside a tile")
      dimensions[0] += slice.extent[0]
    }
    guard let shape = TensorShape(checking: dimensions),
      let component = stored.components(of: shape)?.first(where: { $0.part == part })?.component
    else {
      throw CheckpointError(.malformed, "\(dimensions) elements have no \(part.rawValue) in \(stored.scheme)")
    }
    return component
  }

  private func checkPart(_ part: StoredScheme.Part, of stored: StoredScheme) throws(CheckpointError) {
    let component = try self.component(part, of: stored)
    try check(
      tensor.elementType == component.elementType && tensor.shape == component.shape,
      "the \(part.rawValue) of \(stored.scheme) are \(component.elementType) \(component.shape), not "
        + "\(tensor.elementType) \(tensor.shape)")
  }
}

// MARK: - Scales

extension OperationCheck {
  private func checkCarried(
    _ part: StoredScheme.Part, _ stored: StoredScheme?, _ group: Int?
  ) throws(CheckpointError) {
    try checkGroup(group)
    if part == .matrixScales {
      let scales = source.scaling?.matrixScales
      let count =
        try stored.map { (stored) throws(CheckpointError) in
          try self.component(part, of: stored).shape.elementCount
        }
        ?? (source.extent.count == 3 ? source.extent[0] : 1)
      try check(
        tensor.elementType == .f32 && scales?.elementType ?? .f32 == .f32
          && tensor.shape.elementCount == count,
        "it does not have one scale for each of \(count) matrices")
      try check(
        scales?.shape.elementCount ?? source.matrixCount == source.matrixCount,
        "the source does not have one scale for each matrix")
      return
    }
    guard let stored, scheme?.scheme == stored.scheme else { throw mismatch }
    try checkCuts(stored)
    for slice in tensor.sources {
      try check(slice.scaling?.scheme == scheme, "boxes of different schemes are joined")
    }
    guard part == .scales else {
      try check(tensor.elementType == source.elementType, "codes do not change their type")
      return try checkPart(part, of: stored)
    }
    // Kept scales keep their dimensions.
    let component = try self.component(part, of: stored)
    guard let scales = source.scaling?.scales else {
      throw CheckpointError(.malformed, "the source has no scales")
    }
    try check(
      tensor.shape.elementCount == component.shape.elementCount,
      "\(tensor.shape) are not the scales of \(component.shape)")
    let isWidened = tensor.elementType == .f32 && [.bf16, .f16, .f8E8M0].contains(scales.elementType)
    let isRenamed = tensor.elementType == .u8 && scales.elementType == .f8E8M0
    try check(
      tensor.elementType == scales.elementType || isWidened || isRenamed,
      "scales of \(scales.elementType) cannot become \(tensor.elementType)")
  }

  /// The scale group must contain the tensor's own weights.
  private func checkGroup(_ group: Int?) throws(CheckpointError) {
    guard let group else { return }
    try check(groups.indices.contains(group), "it names no scale group")
    let members = Set(groups[group].members.map(\.tensor))
    for slice in tensor.sources {
      try check(
        members.contains(slice.tensor) && groups[group].members[0].matrixCount == slice.matrixCount,
        "its scale group lacks \(slice.tensor.printable)")
    }
  }

  /// Importance weights apply to the columns of matrices; a stack has one row of them per matrix.
  private func checkImportance(_ name: String?) throws(CheckpointError) {
    try check(name == nil || (2...3).contains(source.shape.rank), "importance weights are for matrices")
  }
}
