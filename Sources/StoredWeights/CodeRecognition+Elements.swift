internal import Checkpoint
internal import Quantization
internal import TensorFormats

/// Modules whose codes are elements of eight bits.
extension CodeRecognition.Module {
  /// How scales apply to a weight.
  private enum ScaleGrid {
    /// One for each matrix.
    case matrix
    /// One for each row.
    case row
    /// One for each tile.
    case tile(rows: Int, columns: Int)
    /// One for this many neighbours in a row.
    case group(Int)
  }

  /// The only scale of the weight.
  private func scale() throws(CheckpointError) -> Checkpoint.Tensor? {
    let found = ["weight_scale_inv", "weight_scale"].compactMap(companion)
    guard found.count < 2 else { throw unread("it has both weight_scale_inv and weight_scale") }
    return found.first
  }

  /// Which elements each scale applies to, judged by shapes: if several readings fit, the configuration decides, and
  /// if it says nothing, the weight is refused.
  private func grid(of scales: Checkpoint.Tensor) throws(CheckpointError) -> ScaleGrid {
    let shape = codes.shape
    guard (2...3).contains(shape.rank) else {
      throw unread(
        "it has scales and \(shape.rank) dimensions; only matrices and stacks of them are supported")
    }
    let (outer, rows, columns) = (
      Array(shape.dimensions.dropLast(2)), shape.dimensions[shape.rank - 2], shape.columns
    )
    var dimensions = scales.shape.dimensions
    // ModelOpt has dimensions of 1 after those of tiles: [n, 1, k, 1].
    if dimensions.count == outer.count + 4, dimensions[outer.count + 1] == 1, dimensions.last == 1 {
      dimensions =
        outer.isEmpty
        ? [dimensions[0], dimensions[2]] : [dimensions[0], dimensions[1], dimensions[3]]
    }
    let tile = settings.tile
    let tiles = outer + [(rows + tile.rows - 1) / tile.rows, (columns + tile.columns - 1) / tile.columns]
    let isInverse = scales.name.hasSuffix("_inv")
    if isInverse, dimensions == tiles { return .tile(rows: tile.rows, columns: tile.columns) }
    if scales.shape.elementCount == matrices(shape), rows != 1 || dimensions.allSatisfy({ $0 == 1 }),
      dimensions.dropFirst(outer.count).allSatisfy({ $0 == 1 })
    {
      return .matrix
    }
    if dimensions == outer + [rows, 1] || dimensions == outer + [rows] {
      guard settings.allowsGroups(of: columns, columns: columns) else {
        throw unread(
          "it has one scale for each row, but the configuration says groups of "
            + settings.groupLengths.sorted().map(String.init).joined(separator: " or "))
      }
      return .row
    }
    if dimensions == tiles { return .tile(rows: tile.rows, columns: tile.columns) }
    if dimensions.count == shape.rank, Array(dimensions.dropLast()) == outer + [rows],
      let groups = dimensions.last, groups > 0, columns % groups == 0
    {
      let length = columns / groups
      // MXFP8's 32 need not be stated.
      if settings.groupLengths.contains(length) || (length == 32 && Self.isExponent(scales)) {
        return .group(length)
      }
    }
    var error = misfit(
      scales, "\(tiles) for tiles of \(tile.rows) x \(tile.columns), \(outer + [rows, 1]) for rows")
    error.remedy =
      "quantization_config.weight_block_size in config.json gives the size of the tiles; \(CodeRecognition.wayOut)"
    throw error
  }

  /// The configuration's statements about codes must hold for eight-bit codes.
  private func checkEightBits() throws(CheckpointError) {
    guard settings.bits.isEmpty || settings.bits.contains(8), !["awq", "gptq"].contains(settings.method)
    else {
      throw unread(
        "its codes are \(codes.elementType), but the configuration says "
          + (settings.bits.isEmpty
            ? "" : settings.bits.sorted().map(String.init).joined(separator: " or ") + " bits, ")
          + settings.description)
    }
  }

  static func isExponent(_ scales: Checkpoint.Tensor) -> Bool {
    scales.elementType == .u8 || scales.elementType == .f8E8M0
  }

  private static let plainScaleTypes: [ElementType] = [.f32, .bf16, .f16, .f8E8M0]

  func smallFloats() throws(CheckpointError) -> Found? {
    guard let scales = try scale() else { return nil }
    try checkEightBits()
    let grid = try grid(of: scales)
    let isExponent = Self.isExponent(scales)
    guard Self.plainScaleTypes.contains(scales.elementType) || isExponent else {
      throw unread("its scales are \(scales.elementType)")
    }
    let method: StoredScheme.Method =
      scales.name.hasSuffix("_inv") || settings.method == "fp8" ? .fp8 : .compressedTensors
    // Exponents stored as U8 are codes themselves, which only the decoder knows.
    guard codes.elementType == .f8E4M3, scales.elementType != .u8 else {
      return .decoded(decoded(scales, grid, name: "\(codes.elementType)"))
    }
    switch grid {
    case .matrix:
      let all = WeightScheme.fp8Block(
        rows: max(1, codes.shape.dimensions[codes.shape.rank - 2]), columns: max(1, codes.shape.columns))
      return .stored(StoredWeight(StoredScheme(all, method), codes, codes.shape, scales: scales))
    case .row: return stored(StoredScheme(.fp8Channel, method), scales)
    case .tile(let rows, let columns):
      return stored(StoredScheme(.fp8Block(rows: rows, columns: columns), method), scales)
    case .group: return .decoded(decoded(scales, grid, name: isExponent ? "MXFP8" : "FP8 in groups"))
    }
  }

  func smallIntegers() throws(CheckpointError) -> Found? {
    guard let scales = try scale() else { return nil }
    try checkEightBits()
    guard Self.plainScaleTypes.contains(scales.elementType) else {
      throw unread("its scales are \(scales.elementType)")
    }
    let grid = try grid(of: scales)
    let zeros = companion("weight_zero_point")
    if zeros == nil, settings.isSymmetric == false {
      throw unread("the configuration says that it has zero points, but there are none")
    }
    if zeros == nil, case .row = grid {
      let method: StoredScheme.Method = settings.method == "w8a8_int8" ? .w8a8Int8 : .compressedTensors
      return stored(StoredScheme(.int8Channel, method), scales)
    }
    if let zeros {
      guard settings.isSymmetric != true else {
        throw unread("it has zero points, but the configuration says that it has none")
      }
      guard [.i8, .i32].contains(zeros.elementType), zeros.shape.elementCount == scales.shape.elementCount
      else { throw misfit(zeros, "\(scales.shape) of I8") }
    }
    return .decoded(decoded(scales, grid, zeros: zeros, name: "INT8"))
  }

  private func decoded(
    _ scales: Checkpoint.Tensor, _ grid: ScaleGrid, zeros: Checkpoint.Tensor? = nil, name: String
  ) -> ScaledCodes {
    let shape = codes.shape
    let (rows, columns) = (shape.dimensions[shape.rank - 2], shape.columns)
    let (height, width): (Int, Int) =
      switch grid {
      case .matrix: (max(1, rows), max(1, columns))
      case .row: (1, max(1, columns))
      case .tile(let rows, let columns): (rows, columns)
      case .group(let length): (1, length)
      }
    return ScaledCodes(
      name: name, codes: codes, packing: .elements, scales: scales,
      zeros: zeros.map(ScaledCodes.Zeros.elements) ?? .constant(0), groupIndex: nil, shape: shape,
      scaleHeight: height, groupLength: width, groups: (columns + width - 1) / width)
  }

  /// A weight in a scheme that can be written too. Its scales may have other dimensions than we write, but not
  /// another order.
  private func stored(_ scheme: StoredScheme, _ scales: Checkpoint.Tensor) -> Found {
    let usual = scheme.scheme.scales(of: codes.shape)?.shape ?? scales.shape
    return .stored(StoredWeight(scheme, codes, codes.shape, scales: scales.viewed(as: usual)))
  }
}
