internal import Checkpoint
package import Quantization
internal import Safetensors
package import Step3Model
package import TensorFormats

/// The modules of one part's checkpoint that are quantised, and those that engines must be told to leave unquantised.
package struct QuantizedModules {
  /// The scheme of all quantised modules.
  package let scheme: StoredScheme
  private let weights: [WrittenWeight]
  private let model: ModelDescription?

  /// - Parameter model: The modules of their model; `nil` for an unknown one.
  /// - Returns: `nil` if nothing is quantised.
  /// - Throws: `.invalidRequest` for modules that no `quantization_config` can describe: several schemes, and
  ///   modules that engines fuse and that would be stored in different ways.
  package init?(_ weights: [WrittenWeight], of model: ModelDescription?) throws(CheckpointError) {
    guard let first = weights.first(where: { $0.scheme != nil }), let scheme = first.scheme else {
      return nil
    }
    self.scheme = scheme
    self.weights = weights
    self.model = model
    if let other = weights.first(where: { $0.scheme != nil && $0.scheme != scheme }),
      let second = other.scheme
    {
      throw CheckpointError(
        .invalidRequest,
        "is \(second.scheme) (\(second.method.rawValue)), and \(first.name) is \(scheme.scheme) "
          + "(\(scheme.method.rawValue)): a checkpoint's configuration can only state one scheme",
        tensor: other.name, remedy: "store both in the same scheme, or one of them in BF16")
    }
    if model != nil { try checkFused() }
    if scheme.method == .mxfp4 { try checkOnlyExperts() }
  }

  /// Engines would silently load these wrongly: matrices fused into one module of which only some are quantised.
  private func checkFused() throws(CheckpointError) {
    var groups: [String: (isQuantized: Bool, tensor: String)] = [:]
    for weight in weights where EngineModules.isLinear(weight, ofKnownModel: true) || weight.scheme != nil {
      guard let module = EngineModules.module(of: weight.publishedName),
        let group = EngineModules.fused(module)?.first
      else { continue }
      let name = weight.name
      guard let first = groups[group] else {
        groups[group] = (weight.scheme != nil, name)
        continue
      }
      guard first.isQuantized == (weight.scheme != nil) else {
        throw CheckpointError(
          .invalidRequest,
          "engines load this tensor and \(first.tensor) as one module, but only one of them is \(scheme.scheme)",
          tensor: name, remedy: "store both in that scheme or neither")
      }
    }
  }

  /// `quant_method: mxfp4` has no list: it means all routed experts and nothing else.
  private func checkOnlyExperts() throws(CheckpointError) {
    for weight in weights where weight.isExpertStack != (weight.scheme != nil) {
      throw CheckpointError(
        .invalidRequest,
        weight.scheme == nil
          ? "is not MXFP4: quant_method mxfp4 means all routed experts"
          : "cannot be MXFP4: quant_method mxfp4 means routed experts only",
        tensor: weight.name, remedy: "choose MXFP4A16, whose configuration lists modules")
    }
  }

  // MARK: - Unquantised modules

  /// The vision side, as a list of names and wildcards. An unknown model gets those of Step-3.
  var visionWildcards: [String] {
    var names: [String] = []
    for row in (model ?? .step3).modules where row.isVision && row.scope == .global {
      let dot = row.publishedName.firstIndex(of: ".")
      let name = dot.map { "*\(row.publishedName[..<$0]).*" } ?? row.publishedName
      if !names.contains(name) { names.append(name) }
    }
    return names
  }

  /// The unquantised linear layers, by the module that holds the weight.
  private var plain: [(module: String, weight: WrittenWeight)] {
    weights.compactMap { weight in
      guard weight.scheme == nil, EngineModules.isLinear(weight, ofKnownModel: model != nil),
        let module = EngineModules.module(of: weight.publishedName)
      else { return nil }
      return (module, weight)
    }
  }

  /// Their names, including those of the engines' modules, sorted, each once.
  ///
  /// Source: vLLM 0.33 and SGLang 0.5.23 match whole module names for `fp8` and `modelopt`, vLLM after adding its
  /// prefix.
  var plainNames: [String] {
    var modules: Set<String> = []
    for (module, weight) in plain {
      modules.insert(module)
      let fused = EngineModules.fused(module) ?? []
      modules.formUnion(fused)
      guard weight.predicts, let layer = weight.layer else { continue }
      modules.formUnion(([module] + fused).map { EngineModules.predicting($0, layer: layer) })
    }
    for weight in weights where weight.scheme == nil {
      modules.formUnion(EngineModules.visionModules(weight, of: model))
    }
    return modules.sorted { $0.precedesBytewise($1) }
  }

  /// The same as regular expressions, as after `re:` in compressed-tensors. None is anchored at the beginning, where
  /// vLLM adds a prefix.
  var plainPatterns: [String] {
    guard let model else { return plainNames }
    var patterns = [Step3Module.lmHead, .tokenEmbedding].compactMap { model[$0]?.publishedName }
    patterns += model.visionPrefixes.map { "re:.*\($0).*" }
    if plain.contains(where: \.weight.predicts) { patterns += EngineModules.predictingPatterns }
    if let router = model[.router] { patterns.append("re:.*\(Self.escaped(router.publishedName))$") }
    for role in [TensorRole.attention, .sharedExpert, .denseFFN, .routedExperts] {
      let members = weights.filter {
        $0.role == role && EngineModules.isLinear($0, ofKnownModel: true)
      }
      let plain = members.filter { $0.scheme == nil }
      let rows = model.modules.filter { $0.role == role && $0.isLinear }
      guard !plain.isEmpty, let row = rows.first else { continue }
      patterns +=
        plain.count == members.count || role == .routedExperts
        ? [Self.pattern(plain, row)] : Self.patterns(plain, row)
    }
    return patterns
  }
}

// MARK: - Patterns

extension QuantizedModules {
  /// One pattern for all linear layers of a role, given one of them.
  private static func pattern(_ weights: [WrittenWeight], _ row: ModelDescription.Module) -> String {
    let parent = escaped(row.parentName)
    switch row.role {
    case .routedExperts: return "re:.*layers\\.(\(layers(weights)))\\.\(alternatives(row.engineNames)).*"
    // SGLang calls the experts of other layers `mlp.experts`, so these layers are named.
    case .denseFFN: return "re:.*layers\\.(\(layers(weights)))\\.\(parent)\\..*"
    default: return "re:.*\(parent)\\..*"
    }
  }

  /// A pattern for each module, with all names that engines use for it.
  private static func patterns(_ weights: [WrittenWeight], _ row: ModelDescription.Module) -> [String] {
    var byModules: [String: [WrittenWeight]] = [:]
    for weight in weights {
      guard let module = EngineModules.module(of: weight.publishedName),
        let dot = module.lastIndex(of: ".")
      else { continue }
      let name = String(module[module.index(after: dot)...])
      let fusion = ModelDescription.Fusion.usual.first { $0.members.contains(name) }
      let names = fusion.map { "(\(($0.members + [$0.name]).joined(separator: "|")))" } ?? name
      byModules[names, default: []].append(weight)
    }
    return byModules.keys.sorted { $0.precedesBytewise($1) }.map { names in
      "re:.*layers\\.(\(layers(byModules[names] ?? [])))\\.\(escaped(row.parentName))\\.\(names)$"
    }
  }

  /// Names that differ only before the last dot: `(moe|mlp)\.experts`.
  private static func alternatives(_ names: [String]) -> String {
    let parts = names.compactMap { name in
      name.lastIndex(of: ".").map { (parent: String(name[..<$0]), own: String(name[$0...])) }
    }
    guard let own = parts.first?.own, parts.count == names.count, parts.allSatisfy({ $0.own == own }) else {
      return "(\(names.map(escaped).joined(separator: "|")))"
    }
    return "(\(parts.map { escaped($0.parent) }.joined(separator: "|")))\(escaped(own))"
  }

  private static func escaped(_ name: String) -> String {
    name.split(separator: ".", omittingEmptySubsequences: false).joined(separator: "\\.")
  }

  private static func layers(_ weights: [WrittenWeight]) -> String {
    Set(weights.compactMap(\.layer)).sorted().map(String.init).joined(separator: "|")
  }
}
