/// A parsed tensor name: the same value from a published name and from a GGUF name. Its spelling is in the
/// ``ModelDescription`` of a family.
public struct Step3TensorName: Hashable, Sendable {
  /// What follows the module.
  public enum Suffix: String, Hashable, Sendable, CaseIterable {
    /// Nothing: the class embedding is a bare parameter.
    case none = ""
    case weight, bias
    case weightPacked = "weight_packed"
    case weightScaleInverse = "weight_scale_inv"
    case weightScale = "weight_scale"
    case weightScale2 = "weight_scale_2"
    case weightGlobalScale = "weight_global_scale"
    case weightZeroPoint = "weight_zero_point"
    case weightShape = "weight_shape"
    case inputScale = "input_scale"
    case inputGlobalScale = "input_global_scale"
    case weightGroupIndex = "weight_g_idx"
    /// AWQ's and GPTQ's codes and their companions.
    case quantizedWeight = "qweight"
    case quantizedZeros = "qzeros"
    case scales
    case groupIndex = "g_idx"

    /// Whether the tensor only says how to read another.
    public var isScale: Bool {
      switch self {
      case .none, .weight, .bias, .weightPacked, .quantizedWeight: false
      default: true
      }
    }
  }

  /// The part of the model.
  public let module: Step3Module
  /// The layer, counted from 0; `nil` for modules that occur once.
  public let layer: Int?
  /// Weight, bias, or one of the scales.
  public let suffix: Suffix

  /// Describes a tensor. The layer is for modules that occur in layers, and only for those.
  public init(_ module: Step3Module, layer: Int? = nil, suffix: Suffix = .weight) {
    self.module = module
    self.layer = layer
    self.suffix = suffix
  }

  /// For a scale the weight it belongs to, otherwise the same tensor.
  public var weight: Step3TensorName {
    suffix.isScale ? Step3TensorName(module, layer: layer, suffix: .weight) : self
  }
}
