internal import Checkpoint
package import Quantization
internal import Safetensors
package import TensorFormats

/// Which modules of one part's checkpoint are quantised, and which engines have to be told to leave alone.
package struct QuantizedModules {
  /// The scheme of all that is quantised.
  package let scheme: StoredScheme
  private let weights: [WrittenWeight]
  private let isStep3: Bool

  /// - Returns: `nil` if nothing is quantised.
  /// - Throws: `.invalidRequest` for what no `quantization_config` can describe: several schemes, and modules that
  ///   engines fuse and that would be stored in different ways.
  package init?(_ weights: [WrittenWeight], isStep3: Bool) throws(CheckpointError) {
    guard let first = weights.first(where: { $0.scheme != nil }), let scheme = first.scheme else {
      return nil
    }
    self.scheme = scheme
    self.weights = weights
    self.isStep3 = isStep3
    if let other = weights.first(where: { $0.scheme != nil && $0.scheme != scheme }),
      let second = other.scheme
    {
      throw CheckpointError(
        .invalidRequest,
        "is \(second.scheme) (\(second.method.rawValue)), and \(first.name) is \(scheme.scheme) "
          + "(\(scheme.method.rawValue)): a checkpoint's configuration has room for one scheme",
        tensor: other.name, remedy: "store both in the same scheme, or one of them in BF16")
    }
    if isStep3 { try checkFused() }
    if scheme.method == .mxfp4 { try checkOnlyExperts() }
  }

  /// Engines would load these wrongly without a word: matrices that they fuse into one module, of which some are
  /// quantised and some are not.
  private func checkFused() throws(CheckpointError) {
    var groups: [String: (isQuantized: Bool, tensor: String)] = [:]
    for weight in weights where EngineModules.isLinear(weight, isStep3: true) || weight.scheme != nil {
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
          "engines load this tensor and \(first.tensor) as one module, and only one of them is \(scheme.scheme)",
          tensor: name, remedy: "store both in that scheme or neither")
      }
    }
  }

  /// `quant_method: mxfp4` has no list: it stands for all routed experts and nothing else.
  private func checkOnlyExperts() throws(CheckpointError) {
    for weight in weights where weight.isExpertStack != (weight.scheme != nil) {
      throw CheckpointError(
        .invalidRequest,
        weight.scheme == nil
          ? "is not MXFP4: quant_method mxfp4 means all routed experts"
          : "cannot be MXFP4: quant_method mxfp4 means routed experts only",
        tensor: weight.name, remedy: "choose MXFP4A16, which can be told what it means")
    }
  }

  // MARK: - What is not quantised

  /// The linear layers that are not quantised, by the module that holds the weight.
  private var plain: [(module: String, weight: WrittenWeight)] {
    weights.compactMap { weight in
      guard weight.scheme == nil, EngineModules.isLinear(weight, isStep3: isStep3),
        let module = EngineModules.module(of: weight.publishedName)
      else { return nil }
      return (module, weight)
    }
  }

  /// Their names, those of the engines' modules included, sorted, each once.
  ///
  /// Source: vLLM 0.33 and SGLang 0.5.23 match whole module names for `fp8` and `modelopt`, vLLM after it has put its
  /// prefix before them.
  var plainNames: [String] {
    var modules: Set<String> = []
    for (module, _) in plain {
      modules.insert(module)
      if let fused = EngineModules.fused(module) { modules.formUnion(fused) }
    }
    return modules.sorted { $0.precedesBytewise($1) }
  }

  /// The same as regular expressions, as compressed-tensors has them after `re:`. None is anchored at the beginning,
  /// where vLLM puts a prefix.
  var plainPatterns: [String] {
    guard isStep3 else { return plainNames }
    var patterns = [
      "lm_head", "model.embed_tokens", #"re:.*vision_model.*"#, #"re:.*vit_.*"#, #"re:.*moe\.gate$"#,
    ]
    for family in Family.allCases {
      let members = weights.filter { family.contains($0) }
      let plain = members.filter { $0.scheme == nil }
      guard !plain.isEmpty else { continue }
      patterns += plain.count == members.count ? [family.pattern(members)] : family.patterns(plain)
    }
    return patterns
  }
}

// MARK: - Patterns

/// The linear layers of one kind.
private enum Family: CaseIterable {
  case attention, shared, dense, experts

  func contains(_ weight: WrittenWeight) -> Bool {
    guard EngineModules.isLinear(weight, isStep3: true) else { return false }
    return switch self {
    case .attention: weight.role == .attention
    case .shared: weight.role == .sharedExpert
    case .dense: weight.role == .denseFFN
    case .experts: weight.role == .routedExperts
    }
  }

  /// One pattern for all of them.
  func pattern(_ weights: [WrittenWeight]) -> String {
    switch self {
    case .attention: #"re:.*self_attn\..*"#
    case .shared: #"re:.*share_expert\..*"#
    // SGLang calls the experts of other layers `mlp.experts`, so these layers are named.
    case .dense: #"re:.*layers\.(\#(layers(weights)))\.mlp\..*"#
    case .experts: #"re:.*layers\.(\#(layers(weights)))\.(moe|mlp)\.experts.*"#
    }
  }

  /// A pattern for each module, with all names that engines have for it.
  func patterns(_ weights: [WrittenWeight]) -> [String] {
    if self == .experts { return [pattern(weights)] }
    var byModules: [String: [WrittenWeight]] = [:]
    for weight in weights {
      guard let module = EngineModules.module(of: weight.publishedName),
        let dot = module.lastIndex(of: ".")
      else { continue }
      let name = module[module.index(after: dot)...]
      let names =
        switch name {
        case "q_proj", "k_proj", "v_proj": "(q_proj|k_proj|v_proj|qkv_proj)"
        case "gate_proj", "up_proj": "(gate_proj|up_proj|gate_up_proj)"
        default: String(name)
        }
      byModules[names, default: []].append(weight)
    }
    let parent =
      switch self {
      case .attention: "self_attn"
      case .shared: "share_expert"
      case .dense, .experts: "mlp"
      }
    return byModules.keys.sorted { $0.precedesBytewise($1) }.map { names in
      #"re:.*layers\.(\#(layers(byModules[names] ?? [])))\.\#(parent)\.\#(names)$"#
    }
  }

  private func layers(_ weights: [WrittenWeight]) -> String {
    Set(weights.compactMap(\.layer)).sorted().map(String.init).joined(separator: "|")
  }
}
