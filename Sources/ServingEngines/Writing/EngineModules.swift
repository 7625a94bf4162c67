internal import Checkpoint
package import Quantization

/// What engines call the modules that hold a weight.
///
/// Both engines quantise every linear layer that is not listed, under the names of *their* modules: fused ones, and
/// experts under another name than the tensors'.
package enum EngineModules {
  /// The suffix of weights.
  private static let suffix = ".weight"

  /// The module of a weight; `nil` for names that are not a module's weight.
  package static func module(of weight: String) -> String? {
    weight.hasSuffix(suffix) ? String(weight.dropLast(suffix.count)) : nil
  }

  /// The modules that engines make of this one together with its neighbours.
  package static func fused(_ module: String) -> [String]? {
    guard let (parent, name) = parts(module) else { return nil }
    switch name {
    case "q_proj", "k_proj", "v_proj": return ["\(parent).qkv_proj"]
    case "gate_proj", "up_proj", "down_proj":
      // Step-3's experts: vLLM calls the module `moe.experts`, SGLang `mlp.experts`.
      if parent.hasSuffix(".moe") { return ["\(parent).experts", "\(parent.dropLast(4)).mlp.experts"] }
      return module.hasSuffix("down_proj") ? nil : ["\(parent).gate_up_proj"]
    default: return nil
    }
  }

  /// What has to share its scale per matrix with a module: an expert's gate and up, and all that is fused. Modules
  /// with the same answer share.
  package static func scaleGroup(_ module: String) -> String {
    guard let (parent, name) = parts(module) else { return module }
    return switch name {
    case "q_proj", "k_proj", "v_proj": "\(parent).qkv_proj"
    case "gate_proj", "up_proj": "\(parent).gate_up_proj"
    default: module
    }
  }

  /// The name under which a module's codes are found where queries, keys and values have to be one tensor, and its
  /// place in that tensor; `nil` for all others.
  package static func fusedQuery(_ module: String) -> (module: String, place: Int)? {
    guard let (parent, name) = parts(module), parent.hasSuffix(".self_attn"),
      let place = ["q_proj", "k_proj", "v_proj"].firstIndex(of: name)
    else { return nil }
    return ("\(parent).qkv_proj", place)
  }

  private static func parts(_ module: String) -> (parent: Substring, name: String)? {
    guard let dot = module.lastIndex(of: ".") else { return nil }
    return (module[..<dot], String(module[module.index(after: dot)...]))
  }

  /// Whether engines make a linear layer of a weight that they would quantise. Step-3's router, embedding and vision
  /// side are never quantised; of an unknown model that is not known.
  package static func isLinear(_ weight: WrittenWeight, isStep3: Bool) -> Bool {
    guard (2...3).contains(weight.rank) else { return false }
    switch weight.role {
    case .attention, .denseFFN, .sharedExpert, .routedExperts, .lmHead, .other: return true
    case .router, .vision, .projector: return !isStep3
    case .embedding, .norm, .scale: return false
    }
  }
}

extension StoredScheme {
  /// Whether vLLM takes queries, keys and values of this scheme only as one tensor: it copies them through a dimension
  /// that scales of whole matrices and `weight_shape` do not have.
  ///
  /// Source: vLLM 0.33, `step3_text.py`.
  package var fusesQueries: Bool { matrixScaleSuffix != nil || shapeSuffix != nil }
}
