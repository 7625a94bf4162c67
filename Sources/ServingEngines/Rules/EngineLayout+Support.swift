internal import Step3Model

/// Why an engine does not support a scheme.
struct EngineRefusal: Error {
  let code: EngineFinding.Code
  let message: String
  let consequence: String
  let remedy: String

  init(_ message: String, _ consequence: String, _ remedy: String) {
    self.init(.schemeUnsupported, message, consequence, remedy)
  }

  init(_ code: EngineFinding.Code, _ message: String, _ consequence: String, _ remedy: String) {
    self.code = code
    self.message = message
    self.consequence = consequence
    self.remedy = remedy
  }
}

extension EngineLayout {
  /// Why an engine's class does not load routed experts, or linear layers, stored like this; `nil` if it does.
  func refusal(by model: EngineModel, for kind: EngineModuleKind) -> EngineRefusal? {
    switch (model.engine, kind == .experts) {
    case (.vllm, true): refusalOfExpertsByVLLM(model)
    case (.vllm, false): refusalOfLinearsByVLLM
    case (.sglang, let isExperts): refusalBySGLang(isExperts: isExperts, model)
    }
  }

  private static func forBoth(_ model: EngineModel) -> String {
    "use FP8 blocks, symmetric W4A16 or weight-only NVFP4, which both engines load for \(model.family.name)"
  }

  private func refusalOfExpertsByVLLM(_ model: EngineModel) -> EngineRefusal? {
    let drops = model.rules.unknown == .drops
    let takesInputScale = model.rules.expertSuffixes != .weights
    switch self {
    case .awq, .gptq:
      return EngineRefusal(
        "\(model.title) maps the names of experts only if the suffix begins with 'weight', but \(self) has "
          + "qweight, qzeros and scales",
        drops
          ? "vLLM silently drops the tensors, and experts stay uninitialised" : "vLLM stops: KeyError",
        Self.forBoth(model))
    case .nvfp4(hasInputScale: true):
      return EngineRefusal(
        "\(self) needs an input_global_scale per expert, which \(model.title) has no name for",
        drops
          ? "vLLM drops the tensors and runs on uninitialised scales"
          : "vLLM stops: KeyError; without the tensors it runs on uninitialised scales",
        "store weight-only NVFP4: input_activations null, no input_global_scale")
    case .modelOptNVFP4(hasInputScale: true) where !takesInputScale:
      return EngineRefusal(
        "\(self) needs an input_scale per expert, which \(model.title) has no name for",
        "vLLM stops: KeyError", "store W4A16_NVFP4, without input_scale")
    case .fp8Tensor(isStatic: true) where !takesInputScale,
      .floatChannel(isStatic: true) where !takesInputScale,
      .floatTensor(isStatic: true) where !takesInputScale:
      return EngineRefusal(
        .expertInputScale, "\(self) needs an input_scale per expert, which \(model.title) has no name for",
        "vLLM stops: KeyError; without the tensors it runs with scales of 1",
        "quantise activations dynamically")
    case .packed(_, _, _, isReordered: true):
      return EngineRefusal(
        "experts with actorder are refused", "vLLM stops: ValueError",
        "quantise without actorder, or with actorder 'weight' or 'static'")
    default: return refusalOfLinearsByVLLM
    }
  }

  private var refusalOfLinearsByVLLM: EngineRefusal? {
    switch self {
    case .int8Channel(isCompressedTensors: false):
      EngineRefusal(
        "vLLM has no quant_method w8a8_int8", "vLLM stops: ValueError, unknown quantization method",
        "for vLLM, write the same tensors under compressed-tensors' int-quantized")
    default: nil
    }
  }

  private func refusalBySGLang(isExperts: Bool, _ model: EngineModel) -> EngineRefusal? {
    switch self {
    case .int8Channel(isCompressedTensors: true):
      EngineRefusal(
        "SGLang runs INT8 experts of compressed-tensors only on NPUs", "SGLang stops: NotImplementedError",
        "for SGLang, write the same tensors under quant_method w8a8_int8")
    case .packed(_, _, isSymmetric: false, _):
      EngineRefusal(
        "SGLang expects weight_zero_point transposed ([groups, rows / 8]), unlike any other loader",
        "SGLang stops, or applies the wrong zero points", "quantise symmetrically")
    case .packed(let bits, _, _, _) where bits != 4 && bits != 8:
      EngineRefusal(
        "SGLang packs 4 or 8 bits, not \(bits)", "SGLang stops: ValueError", "quantise to 4 or 8 bits")
    case .mxfp4:
      EngineRefusal(
        "SGLang's mxfp4 cannot be used with the attention layers of \(model.family.name)",
        "SGLang stops: NotImplementedError, Mxfp4 attention layer is not implemented", Self.forBoth(model))
    case .packedMXFP4:
      EngineRefusal(
        "SGLang has no MXFP4 experts of compressed-tensors", "SGLang stops: Unsupported FusedMoe scheme",
        Self.forBoth(model))
    case .mxfp8(scales: "weight_scale"):
      EngineRefusal(
        "SGLang accepts MXFP8 only from quant_method mxfp8", "SGLang stops: ValueError", Self.forBoth(model))
    default: nil
    }
  }
}
