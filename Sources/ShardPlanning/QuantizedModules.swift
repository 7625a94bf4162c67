internal import Checkpoint
internal import Quantization
internal import TensorFormats

/// Which modules of one part's checkpoint are quantised, and which engines have to be told to leave alone.
struct QuantizedModules {
  /// The scheme of all that is quantised.
  let scheme: StoredScheme
  private let tensors: [PlacedTensor]
  private let isStep3: Bool

  /// - Returns: `nil` if nothing is quantised.
  /// - Throws: `.invalidRequest` for what no `quantization_config` can describe: several schemes, and modules that
  ///   engines fuse and that would be stored in different ways.
  init?(_ tensors: [PlacedTensor], of model: SourceModel) throws(CheckpointError) {
    guard let first = tensors.first(where: { $0.scheme != nil }), let scheme = first.scheme else {
      return nil
    }
    self.scheme = scheme
    self.tensors = tensors
    isStep3 = model.step3 != nil
    if let other = tensors.first(where: { $0.scheme != nil && $0.scheme != scheme }),
      let second = other.scheme
    {
      throw CheckpointError(
        .invalidRequest,
        "is \(second.scheme) (\(second.method.rawValue)), and \(first.source.name) is \(scheme.scheme) "
          + "(\(scheme.method.rawValue)): a checkpoint's configuration has room for one scheme",
        tensor: other.source.name, remedy: "store both in the same scheme, or one of them in BF16")
    }
    if isStep3 { try checkFused() }
    if scheme.method == .mxfp4 { try checkOnlyExperts() }
  }

  /// Engines would load these wrongly without a word: matrices that they fuse into one module, of which some are
  /// quantised and some are not.
  private func checkFused() throws(CheckpointError) {
    var groups: [String: (isQuantized: Bool, tensor: String)] = [:]
    for tensor in tensors where EngineModules.isLinear(tensor, isStep3: true) || tensor.scheme != nil {
      guard let module = EngineModules.module(of: tensor.source.safetensorsName),
        let group = EngineModules.fused(module)?.first
      else { continue }
      let name = tensor.source.name
      guard let first = groups[group] else {
        groups[group] = (tensor.scheme != nil, name)
        continue
      }
      guard first.isQuantized == (tensor.scheme != nil) else {
        throw CheckpointError(
          .invalidRequest,
          "engines load this tensor and \(first.tensor) as one module, and only one of them is \(scheme.scheme)",
          tensor: name, remedy: "store both in that scheme or neither")
      }
    }
  }

  /// `quant_method: mxfp4` has no list: it stands for all routed experts and nothing else.
  private func checkOnlyExperts() throws(CheckpointError) {
    for tensor in tensors where tensor.source.isExpertStack != (tensor.scheme != nil) {
      throw CheckpointError(
        .invalidRequest,
        tensor.scheme == nil
          ? "is not MXFP4: quant_method mxfp4 means all routed experts"
          : "cannot be MXFP4: quant_method mxfp4 means routed experts only",
        tensor: tensor.source.name, remedy: "choose MXFP4A16, which can be told what it means")
    }
  }

  // MARK: - What is not quantised

  /// The linear layers that are not quantised, by the module that holds the weight.
  private var plain: [(module: String, tensor: PlacedTensor)] {
    tensors.compactMap { tensor in
      guard tensor.scheme == nil, EngineModules.isLinear(tensor, isStep3: isStep3),
        let module = EngineModules.module(of: tensor.source.safetensorsName)
      else { return nil }
      return (module, tensor)
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
      let members = tensors.filter { family.contains($0) }
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

  func contains(_ tensor: PlacedTensor) -> Bool {
    guard EngineModules.isLinear(tensor, isStep3: true) else { return false }
    return switch self {
    case .attention: tensor.source.role == .attention
    case .shared: tensor.source.role == .sharedExpert
    case .dense: tensor.source.role == .denseFFN
    case .experts: tensor.source.role == .routedExperts
    }
  }

  /// One pattern for all of them.
  func pattern(_ tensors: [PlacedTensor]) -> String {
    switch self {
    case .attention: #"re:.*self_attn\..*"#
    case .shared: #"re:.*share_expert\..*"#
    // SGLang calls the experts of other layers `mlp.experts`, so these layers are named.
    case .dense: #"re:.*layers\.(\#(layers(tensors)))\.mlp\..*"#
    case .experts: #"re:.*layers\.(\#(layers(tensors)))\.(moe|mlp)\.experts.*"#
    }
  }

  /// A pattern for each module, with all names that engines have for it.
  func patterns(_ tensors: [PlacedTensor]) -> [String] {
    if self == .experts { return [pattern(tensors)] }
    var byModules: [String: [PlacedTensor]] = [:]
    for tensor in tensors {
      guard let module = EngineModules.module(of: tensor.source.safetensorsName),
        let dot = module.lastIndex(of: ".")
      else { continue }
      let name = module[module.index(after: dot)...]
      let names =
        switch name {
        case "q_proj", "k_proj", "v_proj": "(q_proj|k_proj|v_proj|qkv_proj)"
        case "gate_proj", "up_proj": "(gate_proj|up_proj|gate_up_proj)"
        default: String(name)
        }
      byModules[names, default: []].append(tensor)
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

  private func layers(_ tensors: [PlacedTensor]) -> String {
    Set(tensors.compactMap(\.source.layer)).sorted().map(String.init).joined(separator: "|")
  }
}
