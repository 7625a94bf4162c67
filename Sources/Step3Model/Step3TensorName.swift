public import Checkpoint

/// A tensor's name, taken apart: the same value from a Hugging Face name and from a GGUF name.
public struct Step3TensorName: Hashable, Sendable {
  /// What stands after the module.
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
    /// AWQ's and GPTQ's codes, and what belongs to them.
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
  /// The layer, counted from 0; `nil` for what occurs once.
  public let layer: Int?
  /// Weight, bias, or one of the scales.
  public let suffix: Suffix

  /// Makes a name.
  ///
  /// - Precondition: `layer` is given exactly where the module occurs in layers.
  public init(_ module: Step3Module, layer: Int? = nil, suffix: Suffix = .weight) {
    precondition((layer != nil) == (module.scope != .global), "\(module) needs a layer or must have none")
    self.module = module
    self.layer = layer
    self.suffix = suffix
  }

  /// Takes a Hugging Face name apart; `nil` if the model has no such tensor.
  public init?(huggingFace name: String) {
    if let (layer, rest) = Self.layer(of: name, after: "model.layers.") {
      self.init(rest: rest, scope: .textLayer, layer: layer, table: Self.huggingFaceModules)
    } else if let (layer, rest) = Self.layer(of: name, after: "vision_model.transformer.layers.") {
      self.init(rest: rest, scope: .visionLayer, layer: layer, table: Self.huggingFaceModules)
    } else {
      self.init(rest: name[...], scope: .global, layer: nil, table: Self.huggingFaceModules)
    }
  }

  /// Takes a GGUF name apart, of the language model's file or of the vision file; `nil` if there is no such tensor.
  public init?(gguf name: String) {
    if let (layer, rest) = Self.layer(of: name, after: "v.blk.") {
      self.init(rest: rest, scope: .visionLayer, layer: layer, table: Self.ggufModules)
    } else if let (layer, rest) = Self.layer(of: name, after: "blk.") {
      self.init(rest: rest, scope: .textLayer, layer: layer, table: Self.ggufModules)
    } else {
      self.init(rest: name[...], scope: .global, layer: nil, table: Self.ggufModules)
    }
  }

  /// The name in a Hugging Face checkpoint.
  public var huggingFace: String {
    let prefix =
      switch module.scope {
      case .global: ""
      case .textLayer: "model.layers.\(layer ?? 0)."
      case .visionLayer: "vision_model.transformer.layers.\(layer ?? 0)."
      }
    return joined(prefix + module.spelling.huggingFace)
  }

  /// The name in a GGUF file. Scales have one only in files that keep them apart, which GGUF's block types do not.
  public var gguf: String {
    let prefix =
      switch module.scope {
      case .global: ""
      case .textLayer: "blk.\(layer ?? 0)."
      case .visionLayer: "v.blk.\(layer ?? 0)."
      }
    return joined(prefix + module.spelling.gguf)
  }

  /// What the tensor is for.
  public var role: TensorRole { suffix.isScale ? .scale : module.role }

  /// For a scale the weight it belongs to, otherwise the name itself.
  public var weight: Step3TensorName {
    suffix.isScale ? Step3TensorName(module, layer: layer, suffix: .weight) : self
  }

  private func joined(_ stem: String) -> String {
    suffix == .none ? stem : "\(stem).\(suffix.rawValue)"
  }

  private struct Key: Hashable {
    let scope: Step3Module.Scope
    let stem: String
  }
  private static let huggingFaceModules = Dictionary(
    uniqueKeysWithValues: Step3Module.allCases.map {
      (Key(scope: $0.scope, stem: $0.spelling.huggingFace), $0)
    })
  private static let ggufModules = Dictionary(
    uniqueKeysWithValues: Step3Module.allCases.map { (Key(scope: $0.scope, stem: $0.spelling.gguf), $0) })

  private init?(rest: Substring, scope: Step3Module.Scope, layer: Int?, table: [Key: Step3Module]) {
    // Only the class embedding has no suffix, and nothing else may go without one.
    if let module = table[Key(scope: scope, stem: String(rest))] {
      guard module == .classEmbedding else { return nil }
      self.init(module, layer: layer, suffix: .none)
      return
    }
    guard let dot = rest.lastIndex(of: "."),
      let suffix = Suffix(rawValue: String(rest[rest.index(after: dot)...])),
      suffix != .none, let module = table[Key(scope: scope, stem: String(rest[..<dot]))],
      module != .classEmbedding
    else { return nil }
    self.init(module, layer: layer, suffix: suffix)
  }

  /// The number after a prefix and what follows the next dot. Only the canonical spelling counts (no sign, no leading
  /// zero), so that parsing and printing are each other's inverse.
  private static func layer(of name: String, after prefix: String) -> (Int, Substring)? {
    guard name.hasPrefix(prefix) else { return nil }
    let rest = name.dropFirst(prefix.count)
    guard let dot = rest.firstIndex(of: "."), let layer = Int(rest[..<dot]), String(layer) == rest[..<dot],
      layer >= 0
    else { return nil }
    return (layer, rest[rest.index(after: dot)...])
  }
}

extension Step3TensorName: CustomStringConvertible {
  /// The Hugging Face name.
  public var description: String { huggingFace }
}
