internal import Step3Model
internal import TensorFormats

extension EngineCheck {
  /// Layers that predict further tokens are skipped by the model's own loader.
  mutating func passOverPrediction() {
    guard model.rules.skipsPrediction else { return }
    var isThere = false
    for tensor in subject.tensors {
      let name = model.parameterName(tensor.name)
      guard let layer = configuration.family.model.tensor(published: name)?.layer ?? Self.layer(of: name),
        name.hasPrefix("model.layers."), layer >= configuration.text.layerCount
      else { continue }
      isThere = true
      taken.insert(name)
    }
    if isThere {
      skipped.append(
        "layers that predict further tokens: \(engine.name) loads them with a separate class, whose rules are not replayed"
      )
    }
  }

  private static func layer(of name: String) -> Int? {
    let parts = name.split(separator: ".", maxSplits: 3, omittingEmptySubsequences: false)
    return parts.count > 2 ? Int(parts[2]) : nil
  }

  /// Tensors that match no parameter: what engines do with their names.
  mutating func checkRemainingNames() {
    for tensor in subject.tensors {
      let name = model.parameterName(tensor.name)
      let isRenamed = name != tensor.name
      guard taken.contains(name) else {
        report(tensor, name, isPrefixed: !isRenamed && name.hasPrefix("language_model."))
        continue
      }
      // Names that this engine accepts, but not the other one.
      guard isRenamed, !model.rules.prefixesAreCommon else { continue }
      findings.add(
        .warning, .languageModelPrefix, tensor: tensor.name, file: tensor.file,
        "begins with language_model., which published names do not",
        consequence: "vLLM accepts it; SGLang does not",
        remedy:
          "write the name without language_model.: step3-convert SOURCE OUTPUT --to safetensors --published-names"
      )
    }
  }

  private mutating func report(_ tensor: EngineSubject.Tensor, _ name: String, isPrefixed: Bool) {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    // vLLM's and SGLang's own parameters for scales of the attention, which both load.
    if name.hasSuffix(".self_attn.attn.k_scale") || name.hasSuffix(".self_attn.attn.v_scale")
      || name.hasSuffix(".self_attn.attn.q_scale")
    {
      return
    }
    let fault: NameFault =
      if isPrefixed {
        prefixFault(tensor.name)
      } else if let moe = parts.firstIndex(of: "moe") {
        moeFault(Array(parts[(moe + 1)...]))
      } else {
        fault(name, parts)
      }
    let isDropped = isDropped(name, fault)
    findings.add(
      isDropped ? .silent : .error, fault.code, tensor: tensor.name, file: tensor.file, fault.message,
      consequence: isDropped
        ? "\(engine.name) silently drops the tensor, and its parameter stays uninitialised"
        : "\(engine.name) stops: \(fault.exception), it has no such parameter",
      remedy: fault.remedy)
  }

  /// Whether the loader skips a name that it has no parameter for.
  private func isDropped(_ name: String, _ fault: NameFault) -> Bool {
    switch model.rules.unknown {
    // Tensors outside the language model have their own loaders, as has vLLM's output projection: both stop.
    case .drops: name.hasPrefix("model.") || (engine == .sglang && name.hasPrefix("lm_head."))
    // SGLang's Step-3 skips anything that has `moe` in its name and is not one of the three stacks.
    case .stops: engine == .sglang && name.contains("moe") && fault.isDroppedBySGLang
    }
  }

  private struct NameFault {
    let code: EngineFinding.Code
    let message: String
    let remedy: String
    var exception = "KeyError"
    var isDroppedBySGLang = true

    init(_ code: EngineFinding.Code, _ message: String, _ remedy: String) {
      self.code = code
      self.message = message
      self.remedy = remedy
    }
  }

  private func prefixFault(_ name: String) -> NameFault {
    var fault = NameFault(
      .languageModelPrefix, "begins with language_model., which published names do not",
      "write the name without language_model.")
    fault.isDroppedBySGLang = !name.contains("gate.")
    return fault
  }

  /// What is wrong with a name, by the parts after `moe`.
  private func moeFault(_ parts: [String]) -> NameFault {
    let stacks = ["gate_proj", "up_proj", "down_proj"]
    let stack = "stack the experts on the first dimension of moe.{gate,up,down}_proj"
    guard let first = parts.first else {
      return NameFault(.unknownMoE, "is not part of the model", "remove it")
    }
    if first == "gate" {
      var fault = NameFault(
        .routerScale, "the router is never quantised and has only a weight",
        "store moe.gate.weight as BF16 and remove this tensor")
      fault.isDroppedBySGLang = false
      return fault
    }
    if stacks.contains(first), parts.count >= 2 { return suffixFault(parts[1...].joined(separator: ".")) }
    let rest = first == "experts" ? Array(parts.dropFirst()) : parts
    if let expert = rest.first, Int(expert) != nil, rest.count > 1, stacks.contains(rest[1]) {
      return NameFault(
        .perExpertNames, "experts are stored under separate names",
        "\(stack): step3-convert SOURCE OUTPUT --to safetensors --published-names does so")
    }
    if first == "gate_up_proj"
      || (first == "experts" && rest.first.map { stacks.contains($0) || $0 == "gate_up_proj" } == true)
    {
      return NameFault(.fusedExpertNames, "gate and up of all experts are not stored like this", stack)
    }
    if parts.contains("routed_experts")
      || parts.contains(where: { $0.hasPrefix("w13_") || $0.hasPrefix("w2_") })
    {
      var fault = NameFault(.internalNames, "is an engine's own name for its parameter", stack)
      fault.exception = "TypeError"
      return fault
    }
    return NameFault(.unknownMoE, "is not part of the model", "remove it")
  }

  /// What is wrong with the suffix of an expert stack.
  private func suffixFault(_ suffix: String) -> NameFault {
    var fault: NameFault
    switch suffix {
    case "input_scale", "input_global_scale":
      fault = NameFault(
        .expertInputScale, "the scheme has no scale for the activations of experts",
        "remove it, or change input_activations in the configuration")
    case "weight_scale", "weight_scale_inv", "weight_scale_2", "weight_global_scale":
      fault = NameFault(
        .unknownScale, "the scheme has no \(suffix); its scales have a different name",
        "name the scales as quant_method expects, or correct quantization_config")
    default:
      fault = NameFault(
        .unknownScale, "the scheme has no \(suffix.printable)",
        "remove it, or correct quantization_config")
    }
    fault.isDroppedBySGLang = false
    return fault
  }

  private func fault(_ name: String, _ parts: [String]) -> NameFault {
    if parts.first == "lm_head" {
      var fault = NameFault(
        .quantizedLMHead, "lm_head is never quantised and has only a weight", "store lm_head.weight as BF16")
      fault.exception = engine == .vllm ? "ValueError" : "KeyError"
      return fault
    }
    let last = parts.last ?? ""
    if parts.contains("self_attn"), ["k_scale", "v_scale", "q_scale", "output_scale"].contains(last) {
      return NameFault(
        .keyValueScale, "KV cache scales are not read under this name",
        "name it self_attn.attn.k_scale, v_scale or q_scale, or remove it")
    }
    if let dot = name.lastIndex(of: "."), case let model = configuration.family.model,
      let weight = model.tensor(published: "\(name[..<dot]).weight"), model.row(of: weight).isLinear
    {
      return NameFault(
        .unknownScale, "the scheme that the configuration gives the module has no \(last.printable)",
        "remove it, or correct quantization_config")
    }
    return NameFault(
      .unknownTensor, "is not part of the model that config.json describes",
      "remove it, or correct config.json")
  }
}
