internal import StoredWeights
internal import Checkpoint
internal import Quantization
internal import QuantizationRecipes
internal import TensorFormats

/// How a weight is converted, once the recipe has decided.
struct Treatment: Hashable {
  /// How its values are stored; its codes, in a scheme.
  let elementType: ElementType
  /// The operation for the values or codes. Those for scales follow from it.
  let operation: ShardPlan.Operation
  /// Whether its tensors keep their names and types.
  let isKept: Bool

  /// The scheme it is stored in; `nil` if it is one tensor.
  var scheme: StoredScheme? { operation.scheme }
}

extension Treatment {
  /// A weight that stays as it is.
  init(keeping source: SourceTensor) {
    self.init(
      elementType: source.elementType,
      operation: source.scheme.map { .carry(.codes, of: $0, scaleGroup: nil) } ?? .copy, isKept: true)
  }

  /// Finds the smallest change that stores a weight in a format.
  ///
  /// - Parameters:
  ///   - encodes: Whether to re-encode a scheme's codes even if the source's could be kept.
  ///   - weights: The weight's name in the importance matrix, if covered.
  ///   - search: The requested search for a scheme's scales.
  /// - Throws: `.unsupported` for a scheme that is read but not written, and for a type that the source's cannot
  ///   be converted to; `.invalidRequest` for a search that the scheme does not have.
  init(
    _ placed: PlacedTensor, as format: StorageFormat, encodes: Bool, weights: String?, search: ScaleSearch?
  ) throws(CheckpointError) {
    let source = placed.source
    switch format {
    case .keep: self.init(keeping: source)
    // Only four-bit blocks can have a scale per matrix.
    case .element(let type)
    where type == source.elementType && source.scheme == nil
      && (!source.isScaled || Self.hasMatrixScales(type)):
      self.init(keeping: source)
    case .element(let type):
      let operation: ShardPlan.Operation
      if placed.canBeRepacked(as: type) {
        operation = .pack
      } else {
        try placed.checkConvertible(to: type)
        operation = .convert(importance: BlockCodec.codec(for: type)?.usesImportance == true ? weights : nil)
      }
      self.init(elementType: type, operation: operation, isKept: false)
    case .scheme(let stored):
      let operation: ShardPlan.Operation
      if !encodes, source.scheme?.scheme == stored.scheme, placed.canKeepScales {
        operation = .carry(.codes, of: stored, scaleGroup: nil)
      } else if !encodes, placed.canBeRepacked(as: stored.scheme) {
        operation = .unpack(.codes, of: stored)
      } else {
        try placed.checkEncodable(as: stored)
        let search = try Self.search(search, for: stored.scheme, tensor: source.name)
        let encoding = ShardPlan.Encoding(search: search, importance: search == .mse ? weights : nil)
        operation = .encode(.codes, of: stored, encoding)
      }
      self.init(elementType: stored.scheme.geometry.codesType, operation: operation, isKept: false)
    }
  }

  /// Whether tensors of a type can have a scale per matrix beside them, in GGUF.
  private static func hasMatrixScales(_ type: ElementType) -> Bool { type == .nvfp4 }

  /// The search for the scales of what is encoded in a scheme.
  private static func search(
    _ wanted: ScaleSearch?, for scheme: WeightScheme, tensor: String
  ) throws(CheckpointError) -> ScaleSearch {
    if case .fp8Block = scheme {
      guard wanted != .mse else {
        throw CheckpointError(
          .invalidRequest, "there is no scale search for \(scheme)", tensor: tensor,
          remedy: "leave out --scale-search mse, or choose another recipe")
      }
      return .absmax
    }
    return wanted ?? (scheme.isFourBit ? .mse : .absmax)
  }

  /// Whether importance weights would be used for it.
  var hasUseForWeights: Bool {
    switch operation {
    case .convert: BlockCodec.codec(for: elementType)?.usesImportance == true
    case .encode: operation.search == .mse
    case .copy, .pack, .unpack, .carry, .shape: false
    }
  }

  /// Whether another weight is stored in the same way, apart from names.
  func isLike(_ other: Treatment) -> Bool {
    elementType == other.elementType && isKept == other.isKept
      && operation.naming(nil) == other.operation.naming(nil)
  }
}

extension ShardPlan.Operation {
  /// The same with another name for the importance matrix.
  fileprivate func naming(_ importance: String?) -> Self {
    switch self {
    case .convert: return .convert(importance: importance)
    case .encode(let part, let scheme, var encoding):
      encoding.importance = importance
      return .encode(part, of: scheme, encoding)
    case .copy, .pack, .unpack, .carry, .shape: return self
    }
  }
}

extension PlacedTensor {
  /// Whether its bytes are the source's.
  var isCopy: Bool {
    switch treatment.operation {
    case .copy: true
    case .carry(_, let scheme, _):
      scheme?.scheme.geometry.hasMatrixScale != true || source.scheme?.method == scheme?.method
    case .convert, .encode, .pack, .unpack, .shape: false
    }
  }
}

// MARK: - Possible conversions

extension PlacedTensor {
  fileprivate func checkConvertible(to type: ElementType) throws(CheckpointError) {
    try checkDecodable(to: "\(type)")
    guard BlockCodec.codec(for: type)?.canEncode == true else {
      throw CheckpointError(.unsupported, "\(type) cannot be written", tensor: source.name)
    }
  }

  fileprivate func checkEncodable(as stored: StoredScheme) throws(CheckpointError) {
    if stored != StoredScheme(.fp8Tiles, stored.method) {
      do throws(CheckpointError) {
        _ = try RowScheme(stored)
      } catch {
        var named = error
        named.tensor = source.name
        throw named
      }
    }
    try checkDecodable(to: "\(stored.scheme)")
  }

  private func checkDecodable(to target: String) throws(CheckpointError) {
    let from = source.elementType
    guard source.scheme != nil || (BlockCodec.codec(for: from) != nil && !from.isInteger) else {
      throw CheckpointError(
        .unsupported, "\(from) cannot be converted to \(target)", tensor: source.name,
        remedy: "keep it with --tensor-type")
    }
  }

  /// Refuses cuts inside a block of the source, which cannot be split.
  func checkBlocks() throws(CheckpointError) {
    let from = source.elementType
    let block = from.block.elements
    guard source.scheme == nil, let start = box.origin.last, let length = box.extent.last, !isWhole else {
      return
    }
    guard start % block == 0, length % block == 0 else {
      throw CheckpointError(
        .unsupported,
        "the cut at columns \(start) to \(start + length) falls inside the source's blocks of \(block) (\(from))",
        tensor: source.name,
        remedy: "convert to BF16 first"
          + (cut.map { ", or use another cut: \(choices($0, unit: block))" } ?? ""))
    }
  }
}

extension BlockCodec {
  fileprivate var usesImportance: Bool { if case .ignored = importanceUse { false } else { true } }
}

// MARK: - Keeping codes

extension PlacedTensor {
  /// Whether the source's four-bit codes can become GGML blocks of the type.
  fileprivate func canBeRepacked(as type: ElementType) -> Bool {
    switch (source.scheme?.scheme, type) {
    case (.mxfp4, .mxfp4), (.nvfp4, .nvfp4): startsOnColumns(of: type.block.elements)
    default: false
    }
  }

  /// Whether the source's GGML blocks can become codes and scales of the scheme.
  fileprivate func canBeRepacked(as scheme: WeightScheme) -> Bool {
    switch (source.scheme == nil ? source.elementType : nil, scheme) {
    case (.mxfp4, .mxfp4), (.nvfp4, .nvfp4): startsOnColumns(of: source.elementType.block.elements)
    default: false
    }
  }

  private func startsOnColumns(of unit: Int) -> Bool {
    (box.origin.last ?? 0) % unit == 0 && (box.extent.last ?? 0) % unit == 0
  }

  /// Whether the source's scales can be stored exactly in the scheme's own scale type.
  fileprivate var canKeepScales: Bool {
    guard let scheme = source.scheme?.scheme, let scales = source.stored.scales,
      let written = scheme.scales(of: source.stored.shape)
    else { return false }
    let type = scales.elementType
    return type == written.elementType || (type == .f8E8M0 && written.elementType == .u8)
      || ([.bf16, .f16, .f8E8M0].contains(type) && written.elementType == .f32)
  }
}

// MARK: - Cuts

extension PlacedTensor {
  /// Alternatives to a cut, if each piece has to be a multiple of `unit`.
  func choices(_ cut: Cut, unit: Int) -> String {
    cut.choices(length: source.shape.dimensions[cut.axis], unit: unit)
  }

  /// Why the box cannot have its own codes and scales: it begins or ends inside a tile or group; `nil` if it does
  /// not.
  func cutInside(_ scheme: WeightScheme) -> (message: String, choices: String?)? {
    let dimensions = source.shape.dimensions
    guard dimensions.count >= 2 else { return nil }
    let unit = scheme.geometry.cutUnit
    for (axis, length) in [(dimensions.count - 2, unit.rows), (dimensions.count - 1, unit.columns)] {
      let shift = axis == dimensions.count - 2 ? source.firstRow : 0
      let (start, end) = (box.origin[axis] + shift, box.origin[axis] + box.extent[axis] + shift)
      guard start % length == 0, end % length == 0 || end == dimensions[axis] + shift else {
        let what =
          if case .fp8Block = scheme { "an FP8 tile of \(length)" } else {
            "a group of \(length) (\(scheme))"
          }
        return (
          "the cut at \(start) to \(end) of dimension \(axis) falls inside \(what)",
          cut.map { choices($0, unit: length) }
        )
      }
    }
    return nil
  }
}
