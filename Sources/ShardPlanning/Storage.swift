internal import ModelWeights
internal import Checkpoint
internal import Quantization
internal import QuantizationRecipes
internal import TensorFormats

/// How a placed weight is stored, once the recipe has decided.
enum Storage: Hashable {
  /// One tensor of this type.
  case values(ElementType, ShardPlan.Making)
  /// Codes and scales. Kept ones have the source's own names and types.
  case scheme(StoredScheme, ShardPlan.Making, isKept: Bool)
}

extension Storage {
  /// What has to be done so that a weight is stored in a format: as little as possible.
  ///
  /// - Throws: `.unsupported` for a scheme that is read but not written.
  init(_ format: StorageFormat, _ placed: PlacedTensor) throws(CheckpointError) {
    let source = placed.source
    switch format {
    case .keep:
      self = source.scheme.map { .scheme($0, .copy, isKept: true) } ?? .values(source.elementType, .copy)
    case .element(let type):
      if type == source.elementType, source.scheme == nil {
        // A scale of whole matrices goes with blocks of four bits only.
        self = .values(type, source.isScaled && !Self.hasMatrixScales(type) ? .encode : .copy)
      } else {
        self = .values(type, placed.canBeRepacked(as: type) ? .repack : .encode)
      }
    case .scheme(let stored):
      if source.scheme?.scheme == stored.scheme, placed.canKeepScales {
        let sameScale = !stored.scheme.geometry.hasMatrixScale || source.scheme?.method == stored.method
        self = .scheme(stored, sameScale ? .copy : .repack, isKept: false)
      } else if placed.canBeRepacked(as: stored.scheme) {
        self = .scheme(stored, .repack, isKept: false)
      } else {
        try Self.checkWritable(stored, placed)
        self = .scheme(stored, .encode, isKept: false)
      }
    }
  }

  /// Whether tensors of a type can have a scale per matrix beside them, in GGUF.
  static func hasMatrixScales(_ type: ElementType) -> Bool { type == .nvfp4 }

  private static func checkWritable(_ stored: StoredScheme, _ placed: PlacedTensor) throws(CheckpointError) {
    if stored == StoredScheme(.fp8Tiles, stored.method) { return }
    do throws(CheckpointError) {
      _ = try RowScheme(stored)
    } catch {
      var named = error
      named.tensor = placed.source.name
      throw named
    }
  }
}

// MARK: - Leaving codes what they are

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
    (origin.last ?? 0) % unit == 0 && (extent.last ?? 0) % unit == 0
  }

  /// Whether the source's scales hold no more than those that the scheme is written with.
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
  /// What would fit instead of a cut, if each piece has to be a multiple of `unit`.
  func choices(_ cut: Cut, unit: Int) -> String {
    cut.choices(length: source.shape.dimensions[cut.axis], unit: unit)
  }

  /// Why the box cannot have codes and scales of its own, because it begins or ends inside a tile or group; `nil` if
  /// it does not.
  func cutInside(_ scheme: WeightScheme) -> (message: String, choices: String?)? {
    let dimensions = source.shape.dimensions
    guard dimensions.count >= 2 else { return nil }
    let unit = scheme.geometry.cutUnit
    for (axis, length) in [(dimensions.count - 2, unit.rows), (dimensions.count - 1, unit.columns)] {
      let shift = axis == dimensions.count - 2 ? source.firstRow : 0
      let (start, end) = (origin[axis] + shift, origin[axis] + extent[axis] + shift)
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
