public import TensorFormats

/// A scheme under the names of one library: what a safetensors checkpoint calls the tensors of a weight.
///
/// A weight `X.weight` is stored as `X.<codesSuffix>`, `X.<scalesSuffix>` and so on.
public struct StoredScheme: Hashable, Sendable {
  /// `quant_method` in `config.json`.
  public enum Method: String, Hashable, Sendable, CaseIterable {
    /// DeepSeek's and StepFun's block-FP8.
    case fp8
    /// The vLLM project's compressed-tensors.
    case compressedTensors = "compressed-tensors"
    /// NVIDIA's ModelOpt.
    case modelOpt = "modelopt"
    /// MXFP4 as in gpt-oss.
    case mxfp4
    /// SGLang's INT8.
    case w8a8Int8 = "w8a8_int8"
  }

  /// The scheme.
  public let scheme: WeightScheme
  /// The library whose names are used.
  public let method: Method

  /// Combines a scheme with a library's names.
  public init(_ scheme: WeightScheme, _ method: Method) {
    self.scheme = scheme
    self.method = method
  }

  /// `weight`, or `weight_packed` where compressed-tensors packs several codes into one element.
  public var codesSuffix: String {
    guard method == .compressedTensors else { return "weight" }
    return switch scheme {
    case .int4Group, .nvfp4, .mxfp4: "weight_packed"
    case .fp8Block, .fp8Channel, .int8Channel: "weight"
    }
  }

  /// `weight_scale_inv` for `quant_method: fp8`, `weight_scale` for all others.
  public var scalesSuffix: String { method == .fp8 ? "weight_scale_inv" : "weight_scale" }

  /// The name of the scale per matrix; `nil` where the scheme has none.
  public var matrixScaleSuffix: String? {
    guard scheme.geometry.hasMatrixScale else { return nil }
    return method == .modelOpt ? "weight_scale_2" : "weight_global_scale"
  }

  /// Whether values are divided by the stored scale of the matrix, as in compressed-tensors (2688 / amax), rather than
  /// multiplied by it, as in ModelOpt (amax / 2688).
  public var dividesByMatrixScale: Bool { method == .compressedTensors }

  /// The name under which pack-quantized weights state their shape before packing; `nil` for others.
  public var shapeSuffix: String? {
    guard method == .compressedTensors, case .int4Group = scheme else { return nil }
    return "weight_shape"
  }
}

// MARK: - Components

extension StoredScheme {
  /// What one of a weight's tensors holds.
  public enum Part: String, Hashable, Sendable, Codable {
    /// The codes.
    case codes
    /// The scales of tiles, rows or groups.
    case scales
    /// The scales of whole matrices.
    case matrixScales
    /// The shape before packing.
    case shape
  }

  /// The tensors that a weight of this shape is written as, codes first.
  ///
  /// - Returns: `nil` if ``WeightScheme/misfit(_:)`` gives a reason.
  public func components(
    of shape: TensorShape
  ) -> [(part: Part, suffix: String, component: WeightScheme.Component)]? {
    guard let codes = scheme.codes(of: shape), let scales = scheme.scales(of: shape) else { return nil }
    var list = [(Part.codes, codesSuffix, codes), (.scales, scalesSuffix, scales)]
    // One element for each matrix; a single matrix has a vector of one.
    let matrices = shape.rank == 3 ? shape.dimensions[0] : 1
    if let suffix = matrixScaleSuffix {
      list.append(
        (.matrixScales, suffix, WeightScheme.Component(elementType: .f32, shape: TensorShape([matrices]))))
    }
    if let suffix = shapeSuffix {
      let dimensions = shape.rank == 3 ? [matrices, 2] : [2]
      list.append(
        (.shape, suffix, WeightScheme.Component(elementType: .i64, shape: TensorShape(dimensions))))
    }
    return list
  }
}
