internal import TensorFormats

/// The layout that an engine expects for a module's weight: the scheme from `quantization_config`.
///
/// Sources: the loaders of vLLM 0.33 and SGLang 0.5.23.
enum EngineLayout: Hashable {
  /// Values.
  case plain
  /// `quant_method` fp8 with `weight_block_size`.
  case fp8Block(rows: Int, columns: Int)
  /// `quant_method` fp8 without, or ModelOpt's FP8: one scale per matrix.
  case fp8Tensor(isStatic: Bool)
  /// compressed-tensors, FP8: a scale per row, per matrix or per tile.
  case floatChannel(isStatic: Bool)
  case floatTensor(isStatic: Bool)
  case floatBlock(rows: Int, columns: Int)
  /// INT8 with a scale per row: from compressed-tensors, or from `quant_method` w8a8_int8.
  case int8Channel(isCompressedTensors: Bool)
  /// compressed-tensors' pack-quantized: whole words of integers; `group` is `nil` for a scale per row.
  case packed(bits: Int, group: Int?, isSymmetric: Bool, isReordered: Bool)
  /// compressed-tensors' NVFP4, with the activations' global scale if those are quantised too.
  case nvfp4(hasInputScale: Bool)
  /// ModelOpt's NVFP4.
  case modelOptNVFP4(hasInputScale: Bool)
  /// `quant_method` mxfp4.
  case mxfp4
  /// compressed-tensors' MXFP4.
  case packedMXFP4
  /// MXFP8, with the suffix of its scales.
  case mxfp8(scales: String)
  case awq(group: Int)
  /// GPTQ; `isReordered` is `desc_act`, without which engines ignore `g_idx`.
  case gptq(bits: Int, group: Int, isReordered: Bool)
}

extension EngineLayout: CustomStringConvertible {
  /// The name in reports.
  var description: String {
    switch self {
    case .plain: "BF16"
    case .fp8Block(let rows, let columns): "FP8 in blocks of \(rows) x \(columns)"
    case .fp8Tensor(let isStatic): "FP8 per matrix" + (isStatic ? ", static activations" : "")
    case .floatChannel(let isStatic):
      "FP8 per row (compressed-tensors)" + (isStatic ? ", static activations" : "")
    case .floatTensor(let isStatic):
      "FP8 per matrix (compressed-tensors)" + (isStatic ? ", static activations" : "")
    case .floatBlock(let rows, let columns): "FP8 in blocks of \(rows) x \(columns) (compressed-tensors)"
    case .int8Channel(let isCompressedTensors):
      "INT8 per row (\(isCompressedTensors ? "compressed-tensors" : "w8a8_int8"))"
    case .packed(let bits, let group, let isSymmetric, _):
      "W\(bits)A16 " + (group.map { "in groups of \($0)" } ?? "per row") + (isSymmetric ? "" : ", asymmetric")
    case .nvfp4(let hasInputScale): hasInputScale ? "NVFP4 W4A4" : "NVFP4 weight-only"
    case .modelOptNVFP4(let hasInputScale): hasInputScale ? "ModelOpt NVFP4" : "ModelOpt W4A16_NVFP4"
    case .mxfp4: "MXFP4"
    case .packedMXFP4: "MXFP4 (compressed-tensors)"
    case .mxfp8: "MXFP8"
    case .awq(let group): "AWQ in groups of \(group)"
    case .gptq(let bits, let group, _): "GPTQ of \(bits) bits in groups of \(group)"
    }
  }
}

/// One tensor of a module's weight.
struct EngineComponent {
  /// Whether it is required.
  enum Presence { case required, optional, activationScale }

  /// The suffix after the module's name and a dot.
  let suffix: String
  /// The types accepted unchanged; the first is the parameter's own.
  let types: [ElementType]
  /// The accepted shapes, row-major.
  let shapes: [[Int]]
  let presence: Presence
  /// Whether there is one value, or a short row of them, for each matrix. vLLM has no place for such a tensor of q, k
  /// or v in their fused module.
  let isPerMatrix: Bool

  /// Whether it only says how to read another.
  var isScale: Bool { !["weight", "weight_packed", "qweight"].contains(suffix) }

  init(
    _ suffix: String, _ types: ElementType..., shapes: [[Int]], presence: Presence = .required,
    isPerMatrix: Bool = false
  ) {
    self.init(suffix, types, shapes: shapes, presence: presence, isPerMatrix: isPerMatrix)
  }

  init(
    _ suffix: String, _ types: [ElementType], shapes: [[Int]], presence: Presence = .required,
    isPerMatrix: Bool = false
  ) {
    self.suffix = suffix
    self.types = types
    self.shapes = shapes
    self.presence = presence
    self.isPerMatrix = isPerMatrix
  }
}

/// The dimensions of a weight: `[experts, rows, columns]`, or `[rows, columns]`.
struct MatrixExtent: Hashable {
  var experts: Int?
  var rows: Int
  var columns: Int

  /// Dimensions of a component, preceded by experts if any.
  func stacked(_ dimensions: Int...) -> [[Int]] { [(experts.map { [$0] } ?? []) + dimensions] }

  /// The shapes that a value per matrix may have.
  var perMatrix: [[Int]] { experts.map { [[$0], [$0, 1]] } ?? [[1], []] }
}

// MARK: - The table

extension EngineLayout {
  /// The tensors of a weight, or why a weight with these dimensions cannot be stored like this.
  func components(of extent: MatrixExtent) -> Result<[EngineComponent], Misfit> {
    let (rows, columns) = (extent.rows, extent.columns)
    func tiles(_ height: Int, _ width: Int) -> [[Int]] {
      extent.stacked((rows - 1) / height + 1, (columns - 1) / width + 1)
    }
    func codes(_ type: ElementType, _ suffix: String = "weight", by factor: Int = 1) -> EngineComponent {
      EngineComponent(suffix, type, shapes: extent.stacked(rows, columns / factor))
    }
    let inputScale = EngineComponent(
      "input_scale", .f32, shapes: extent.perMatrix, presence: .activationScale, isPerMatrix: true)
    if let group = groupLength, columns % group != 0 {
      return .failure(Misfit("rows of \(columns) elements are not whole groups of \(group)"))
    }
    switch self {
    case .plain: return .success([codes(.bf16)])
    case .fp8Block(let height, let width):
      return .success([
        codes(.f8E4M3), EngineComponent("weight_scale_inv", .f32, shapes: tiles(height, width)),
      ])
    case .floatBlock(let height, let width):
      return .success([codes(.f8E4M3), EngineComponent("weight_scale", .f32, shapes: tiles(height, width))])
    case .fp8Tensor(let isStatic), .floatTensor(let isStatic):
      let scale = EngineComponent("weight_scale", .f32, shapes: extent.perMatrix, isPerMatrix: true)
      return .success([codes(.f8E4M3), scale] + (isStatic ? [inputScale] : []))
    case .floatChannel(let isStatic):
      let scale = EngineComponent("weight_scale", .f32, shapes: extent.stacked(rows, 1))
      return .success([codes(.f8E4M3), scale] + (isStatic ? [inputScale] : []))
    case .int8Channel:
      return .success([codes(.i8), EngineComponent("weight_scale", .f32, shapes: extent.stacked(rows, 1))])
    case .packed(let bits, let group, let isSymmetric, let isReordered):
      return packedComponents(extent, bits, group, isSymmetric, isReordered)
    case .nvfp4, .modelOptNVFP4, .mxfp4, .packedMXFP4:
      guard columns % 2 == 0 else { return .failure(Misfit("rows of \(columns) elements are odd")) }
      return .success(fourBitComponents(extent))
    case .mxfp8(let scales):
      return .success([
        codes(.f8E4M3), EngineComponent(scales, .u8, shapes: extent.stacked(rows, columns / 32)),
      ])
    case .awq(let group):
      guard rows % 8 == 0 else { return .failure(Misfit("\(rows) rows are not whole words of eight codes")) }
      return .success([
        EngineComponent("qweight", .i32, shapes: extent.stacked(columns, rows / 8)),
        EngineComponent("qzeros", .i32, shapes: extent.stacked(columns / group, rows / 8)),
        EngineComponent("scales", .f16, .bf16, shapes: extent.stacked(columns / group, rows)),
      ])
    case .gptq(let bits, let group, _):
      let perWord = 32 / bits
      guard rows % perWord == 0, columns % perWord == 0 else {
        return .failure(Misfit("\(rows) x \(columns) are not whole words of \(perWord) codes"))
      }
      return .success([
        EngineComponent("qweight", .i32, shapes: extent.stacked(columns / perWord, rows)),
        EngineComponent("qzeros", .i32, shapes: extent.stacked(columns / group, rows / perWord)),
        EngineComponent("scales", .f16, .bf16, shapes: extent.stacked(columns / group, rows)),
        EngineComponent("g_idx", .i32, shapes: extent.stacked(columns), presence: .optional),
      ])
    }
  }

  /// Why dimensions do not fit a layout.
  struct Misfit: Error {
    let message: String
    init(_ message: String) { self.message = message }
  }

  /// The neighbours in a row that share a scale; `nil` if whole rows or tiles share one.
  var groupLength: Int? {
    switch self {
    case .packed(_, let group, _, _): group
    case .nvfp4, .modelOptNVFP4: 16
    case .mxfp4, .packedMXFP4, .mxfp8: 32
    case .awq(let group), .gptq(_, let group, _): group
    default: nil
    }
  }

  /// The tile that shares a scale.
  var tile: (rows: Int, columns: Int)? {
    switch self {
    case .fp8Block(let rows, let columns), .floatBlock(let rows, let columns): (rows, columns)
    default: nil
    }
  }

  private func packedComponents(
    _ extent: MatrixExtent, _ bits: Int, _ group: Int?, _ isSymmetric: Bool, _ isReordered: Bool
  ) -> Result<[EngineComponent], Misfit> {
    // Codes whose bits do not divide a word leave part of each word unused, and of the last word of a row.
    let perWord = 32 / bits
    guard extent.columns % perWord == 0 || 32 % bits != 0 else {
      return .failure(Misfit("rows of \(extent.columns) elements are not whole words of \(perWord) codes"))
    }
    let words = (extent.columns - 1) / perWord + 1
    let groups = group.map { extent.columns / $0 } ?? 1
    var components = [
      EngineComponent("weight_packed", .i32, shapes: extent.stacked(extent.rows, words)),
      EngineComponent("weight_scale", .bf16, shapes: extent.stacked(extent.rows, groups)),
      EngineComponent(
        "weight_shape", .i64, shapes: extent.stacked(2), presence: .optional, isPerMatrix: true),
    ]
    if !isSymmetric {
      guard extent.rows % perWord == 0 else {
        return .failure(Misfit("\(extent.rows) rows are not whole words of \(perWord) zero points"))
      }
      components.append(
        EngineComponent("weight_zero_point", .i32, shapes: extent.stacked(extent.rows / perWord, groups)))
    }
    if isReordered {
      components.append(EngineComponent("weight_g_idx", .i32, shapes: extent.stacked(extent.columns)))
    }
    return .success(components)
  }

  private func fourBitComponents(_ extent: MatrixExtent) -> [EngineComponent] {
    let codes = extent.stacked(extent.rows, extent.columns / 2)
    let sixteenths = extent.stacked(extent.rows, extent.columns / 16)
    let exponents = extent.stacked(extent.rows, extent.columns / 32)
    func perMatrix(_ suffix: String, _ presence: EngineComponent.Presence = .required) -> EngineComponent {
      EngineComponent(suffix, .f32, shapes: extent.perMatrix, presence: presence, isPerMatrix: true)
    }
    switch self {
    case .nvfp4(let hasInputScale):
      return [
        EngineComponent("weight_packed", .u8, shapes: codes),
        EngineComponent("weight_scale", .f8E4M3, shapes: sixteenths), perMatrix("weight_global_scale"),
      ] + (hasInputScale ? [perMatrix("input_global_scale", .activationScale)] : [])
    case .modelOptNVFP4(let hasInputScale):
      return [
        EngineComponent("weight", .u8, shapes: codes),
        EngineComponent("weight_scale", .f8E4M3, shapes: sixteenths), perMatrix("weight_scale_2"),
      ] + (hasInputScale ? [perMatrix("input_scale", .activationScale)] : [])
    case .packedMXFP4:
      return [
        EngineComponent("weight_packed", .u8, shapes: codes),
        EngineComponent("weight_scale", .u8, shapes: exponents),
      ]
    default:
      // For `quant_method` mxfp4 the loader takes the bits, whatever their type.
      return [
        EngineComponent("weight", .u8, shapes: codes),
        EngineComponent("weight_scale", .u8, .f8E8M0, shapes: exponents),
      ]
    }
  }
}
