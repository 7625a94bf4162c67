internal import Checkpoint
package import Quantization
internal import Step3Model

/// The engines' names of the modules that hold a weight.
///
/// Both engines quantise every linear layer that is not listed, under the names of *their* modules: fused ones, and
/// experts under another name than the tensors'. The fusions come from the ``ModelDescription`` of a family, or from
/// common naming conventions for unknown models.
package enum EngineModules {
  /// The suffix of weights.
  private static let suffix = ".weight"

  /// The module of a weight; `nil` for names that are not a module's weight.
  package static func module(of weight: String) -> String? {
    weight.hasSuffix(suffix) ? String(weight.dropLast(suffix.count)) : nil
  }

  /// The modules that engines fuse this one into together with its siblings.
  package static func fused(_ module: String) -> [String]? {
    if let row = row(module) {
      let layer = module.dropLast(row.publishedName.count)
      return row.engineNames.isEmpty ? nil : row.engineNames.map { layer + $0 }
    }
    return usual(module).map { ["\($0.parent).\($0.fusion.name)"] }
  }

  /// The group of modules that must share one scale per matrix: an expert's gate and up, and everything that is
  /// fused. Modules with equal results share.
  package static func scaleGroup(_ module: String) -> String {
    usual(module).map { "\($0.parent).\($0.fusion.name)" } ?? module
  }

  /// The module that stores a module's codes where queries, keys and values must be one tensor, and its position
  /// in that tensor; `nil` for all others.
  package static func fusedQuery(_ module: String) -> (module: String, place: Int)? {
    guard row(module)?.fusion == .queryKeyValue, let (parent, name, fusion) = usual(module),
      let place = fusion.members.firstIndex(of: name)
    else { return nil }
    return ("\(parent).\(fusion.name)", place)
  }

  /// The modules of layers that engines fuse with others.
  private static let rows = ModelFamily.allCases.flatMap { family in
    family.model.modules.filter { $0.scope == .textLayer && $0.isLinear }
  }

  /// A family's description of a module, by the part of the name after the layer.
  private static func row(_ module: String) -> ModelDescription.Module? {
    rows.first { module.hasSuffix(".\($0.publishedName)") }
  }

  /// The conventional fusion of a module, by its name.
  private static func usual(
    _ module: String
  ) -> (parent: Substring, name: String, fusion: ModelDescription.Fusion)? {
    guard let dot = module.lastIndex(of: ".") else { return nil }
    let name = String(module[module.index(after: dot)...])
    let fusion = row(module)?.fusion ?? ModelDescription.Fusion.usual.first { $0.members.contains(name) }
    return fusion.map { (module[..<dot], name, $0) }
  }

  /// The engines' modules for a vision weight if they would quantise it too; empty for models in which they do not.
  static func visionModules(_ weight: WrittenWeight, of model: ModelDescription?) -> [String] {
    guard weight.rank == 2, let name = model?.tensor(published: weight.publishedName),
      let row = model?.row(of: name), row.isVision, !row.engineNames.isEmpty
    else { return [] }
    let own = module(of: weight.publishedName)
    let layer = (own ?? weight.publishedName).dropLast(row.publishedName.count)
    let names = [own].compactMap { $0 } + row.engineNames.map { layer + $0 }
    guard let layers = model?.visionLayers, row.scope == .visionLayer else { return names }
    return names
      + layers.engines.flatMap { engine in names.map { engine + $0.dropFirst(layers.published.count) } }
  }

  /// vLLM's name of a module in a multi-token prediction layer: it separates the layer's own modules from the
  /// additional ones.
  ///
  /// Sources: vLLM 0.33, `step3p5_mtp.py`; SGLang 0.5.23, `step3p5_mtp.py`.
  package static func predicting(_ module: String, layer: Int) -> String {
    let prefix = "model.layers.\(layer)."
    guard module.hasPrefix(prefix) else { return module }
    let rest = module.dropFirst(prefix.count)
    return rest == "transformer.shared_head.output"
      ? "\(prefix)shared_head.head" : rest == "eh_proj" ? module : "\(prefix)mtp_block.\(rest)"
  }

  /// The same as regular expressions.
  package static let predictingPatterns = [
    #"re:.*mtp_block\..*"#, #"re:.*shared_head\..*"#, #"re:.*eh_proj$"#,
  ]

  /// Whether engines would load a weight as a linear layer that they quantise. The family's routers, embedding and
  /// vision side are never quantised; for an unknown model this cannot be determined.
  package static func isLinear(_ weight: WrittenWeight, ofKnownModel isKnown: Bool) -> Bool {
    guard (2...3).contains(weight.rank) else { return false }
    switch weight.role {
    case .attention, .denseFFN, .sharedExpert, .routedExperts, .lmHead, .other: return true
    case .router, .vision, .projector: return !isKnown
    case .embedding, .norm, .scale: return false
    }
  }
}

extension StoredScheme {
  /// Whether vLLM accepts queries, keys and values of this scheme only as one tensor: it copies them through a
  /// dimension that scales of whole matrices and `weight_shape` do not have.
  ///
  /// Source: vLLM 0.33, `step3_text.py`.
  package var fusesQueries: Bool { matrixScaleSuffix != nil || shapeSuffix != nil }
}
