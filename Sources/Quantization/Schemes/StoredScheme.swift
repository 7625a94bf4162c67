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
    /// MXFP4 in the manner of gpt-oss.
    case mxfp4
    /// SGLang's INT8.
    case w8a8Int8 = "w8a8_int8"
  }

  /// What the numbers are.
  public let scheme: WeightScheme
  /// Whose names.
  public let method: Method

  /// Puts a scheme and names together.
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
    guard scheme.hasMatrixScale else { return nil }
    return method == .modelOpt ? "weight_scale_2" : "weight_global_scale"
  }

  /// Whether values are divided by the stored scale of the matrix, as in compressed-tensors (2688 / amax), rather than
  /// multiplied with it, as in ModelOpt (amax / 2688).
  public var dividesByMatrixScale: Bool { method == .compressedTensors }

  /// The name under which pack-quantized weights state their shape before packing; `nil` for others.
  public var shapeSuffix: String? {
    guard method == .compressedTensors, case .int4Group = scheme else { return nil }
    return "weight_shape"
  }
}
