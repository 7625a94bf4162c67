import JSON
import ServingEngines
import Step3Model
import Testing
import TensorFormats

@Suite("Faults in names and shapes")
struct EngineFaultTests {
  private typealias Expected = (engine: Engine, severity: EngineFinding.Severity)

  /// Expects one kind of fault from each engine, apart from its consequences.
  private func expect(
    _ checkpoint: SyntheticCheckpoint, _ code: EngineFinding.Code, vllm: EngineFinding.Severity?,
    sglang: EngineFinding.Severity?, besides: Set<EngineFinding.Code> = [],
    at location: SourceLocation = #_sourceLocation
  ) throws {
    for (engine, severity) in [(Engine.vllm, vllm), (.sglang, sglang)] {
      let report = try checkpoint.report(engine)
      #expect(report.severity(code) == severity, "\(engine): \(report.findings)", sourceLocation: location)
      #expect(
        report.faults.subtracting(besides) == (severity.map { $0.isFatal ? [code] : [] } ?? []),
        "\(engine): \(report.findings)", sourceLocation: location)
      #expect(report.ok == report.faults.isEmpty, sourceLocation: location)
    }
  }

  // MARK: Names of experts

  @Test("per-expert-names: vLLM stops, SGLang drops the experts")
  func perExpertNames() throws {
    for infix in ["moe.experts", "moe"] {
      var checkpoint = try SyntheticCheckpoint(.bf16)
      checkpoint.remove("1.moe.gate_proj.weight")
      for expert in 0..<48 {
        checkpoint.add("model.layers.1.\(infix).\(expert).gate_proj.weight", "BF16", [1024, 512])
      }
      try expect(checkpoint, .perExpertNames, vllm: .error, sglang: .silent, besides: [.missingTensor])
      #expect(try checkpoint.report(.vllm).findings.first { $0.code == .perExpertNames }?.count == 48)
    }
  }

  @Test(
    "fused-expert-names: gate and up of all experts in one tensor are a fault",
    arguments: ["moe.gate_up_proj.weight", "moe.experts.gate_up_proj"])
  func fusedExpertNames(name: String) throws {
    var checkpoint = try SyntheticCheckpoint(.bf16)
    checkpoint.remove("1.moe.gate_proj.weight")
    checkpoint.remove("1.moe.up_proj.weight")
    checkpoint.add("model.layers.1.\(name)", "BF16", [48, 2048, 512])
    try expect(checkpoint, .fusedExpertNames, vllm: .error, sglang: .silent, besides: [.missingTensor])
  }

  @Test("internal-names: an engine's own parameter name is a fault")
  func internalNames() throws {
    var checkpoint = try SyntheticCheckpoint(.bf16)
    checkpoint.add("model.layers.1.moe.experts.routed_experts.w13_weight", "BF16", [48, 2048, 512])
    try expect(checkpoint, .internalNames, vllm: .error, sglang: .silent)
  }

  @Test("unknown-moe: vLLM stops, SGLang drops the tensor")
  func unknownMoE() throws {
    var checkpoint = try SyntheticCheckpoint(.bf16)
    checkpoint.add("model.layers.1.moe.router_bias", "F32", [48])
    try expect(checkpoint, .unknownMoE, vllm: .error, sglang: .silent)
  }

  @Test("language-model-prefix: vLLM loads it, SGLang drops experts and stops at other tensors")
  func languageModelPrefix() throws {
    var experts = try SyntheticCheckpoint(.bf16)
    experts.change("1.moe.gate_proj.weight") { $0.name = "language_model." + $0.name }
    try expect(experts, .languageModelPrefix, vllm: .warning, sglang: .silent, besides: [.missingTensor])
    var norm = try SyntheticCheckpoint(.bf16)
    norm.change("model.norm.weight") { $0.name = "language_model." + $0.name }
    try expect(norm, .languageModelPrefix, vllm: .warning, sglang: .error, besides: [.missingTensor])
  }

  @Test("router-scale: both engines stop")
  func routerScale() throws {
    var checkpoint = try SyntheticCheckpoint(.fp8Block)
    checkpoint.add("model.layers.1.moe.gate.weight_scale", "F32", [1])
    try expect(checkpoint, .routerScale, vllm: .error, sglang: .error)
  }

  @Test("expert-input-scale: vLLM stops at activation scales")
  func expertInputScale() throws {
    var checkpoint = try SyntheticCheckpoint(.fp8Tensor)
    checkpoint.config.set(["quantization_config", "activation_scheme"], to: .string("static"))
    for layer in [1, 2] {
      for name in ["gate_proj", "up_proj", "down_proj"] {
        checkpoint.add("model.layers.\(layer).moe.\(name).input_scale", "F32", [48])
      }
    }
    try expect(checkpoint, .expertInputScale, vllm: .error, sglang: nil)
  }

  @Test("scheme-unsupported: vLLM does not load NVFP4 with quantised activations")
  func globalInputScale() throws {
    try expect(SyntheticCheckpoint(.nvfp4W4A4), .schemeUnsupported, vllm: .error, sglang: nil)
    try expect(SyntheticCheckpoint(.awq), .schemeUnsupported, vllm: .error, sglang: nil)
    try expect(SyntheticCheckpoint(.gptq), .schemeUnsupported, vllm: .error, sglang: nil)
    try expect(SyntheticCheckpoint(.int8SGLang), .schemeUnsupported, vllm: .error, sglang: nil)
  }

  @Test("scheme-unsupported: SGLang does not load MXFP4 or asymmetric zero points")
  func notForSGLang() throws {
    for scheme in [SyntheticScheme.mxfp4, .mxfp4CT, .fp8WithMXFP4, .w4a16Asymmetric, .int8CT] {
      try expect(SyntheticCheckpoint(scheme), .schemeUnsupported, vllm: nil, sglang: .error)
    }
  }

  // MARK: Names of linear layers

  @Test("unknown-scale: block scales without _inv are a fault")
  func wrongScaleName() throws {
    var checkpoint = try SyntheticCheckpoint(.fp8Block)
    checkpoint.change("1.moe.gate_proj.weight_scale_inv") { $0.name = String($0.name.dropLast(4)) }
    try expect(checkpoint, .unknownScale, vllm: .error, sglang: .error, besides: [.missingScale])
  }

  @Test("quantized-lm-head: both engines stop")
  func quantizedLMHead() throws {
    var checkpoint = try SyntheticCheckpoint(.w4a16)
    checkpoint.remove("lm_head.weight")
    checkpoint.add("lm_head.weight_packed", "I32", [512, 64])
    checkpoint.add("lm_head.weight_scale", "BF16", [512, 4])
    try expect(checkpoint, .quantizedLMHead, vllm: .error, sglang: .error, besides: [.missingTensor])
  }

  @Test("attention-scalar: weight_shape of q, k and v stops vLLM")
  func weightShape() throws {
    var checkpoint = try SyntheticCheckpoint(.w4a16, expertsOnly: false)
    checkpoint.add("model.layers.0.self_attn.k_proj.weight_shape", "I64", [2])
    try expect(checkpoint, .attentionScalar, vllm: .error, sglang: nil)
  }

  @Test(
    "attention-scalar: scales per matrix of unfused attention stop vLLM",
    arguments: [SyntheticScheme.nvfp4A16, .fp8Tensor, .modelOptA16])
  func unfusedScalars(scheme: SyntheticScheme) throws {
    let checkpoint = try SyntheticCheckpoint(scheme, expertsOnly: false, fusedAttention: false)
    try expect(checkpoint, .attentionScalar, vllm: .error, sglang: nil)
  }

  @Test("fused-twice: a fused module beside its parts is a fault")
  func fusedTwice() throws {
    var checkpoint = try SyntheticCheckpoint(.bf16)
    checkpoint.add("model.layers.0.self_attn.qkv_proj.weight", "BF16", [512, 512])
    try expect(checkpoint, .fusedTwice, vllm: .silent, sglang: .silent)
  }

  @Test("key-value-scale: accepted only under the attention's own name")
  func keyValueScale() throws {
    var wrong = try SyntheticCheckpoint(.bf16)
    wrong.add("model.layers.0.self_attn.k_proj.k_scale", "F32", [1])
    try expect(wrong, .keyValueScale, vllm: .error, sglang: .error)
    var right = try SyntheticCheckpoint(.bf16)
    right.add("model.layers.0.self_attn.attn.k_scale", "F32", [1])
    #expect(try right.report(.vllm).ok && right.report(.sglang).ok)
  }

  @Test("unknown-tensor: a layer beyond the last is a fault")
  func unknownTensor() throws {
    var checkpoint = try SyntheticCheckpoint(.bf16)
    checkpoint.add("model.layers.4.input_layernorm.weight", "BF16", [512])
    try expect(checkpoint, .unknownTensor, vllm: .error, sglang: .error)
  }

  @Test("missing-tensor: vLLM notices in models that are not quantised, SGLang never")
  func missingTensor() throws {
    var plain = try SyntheticCheckpoint(.bf16)
    plain.remove("model.norm.weight")
    try expect(plain, .missingTensor, vllm: .error, sglang: .silent)
    var quantized = try SyntheticCheckpoint(.fp8Block)
    quantized.remove("model.norm.weight")
    try expect(quantized, .missingTensor, vllm: .silent, sglang: .silent)
  }

  @Test("missing-scale and missing-input-scale: they stay uninitialised, or 1")
  func missingScales() throws {
    var scale = try SyntheticCheckpoint(.fp8Block)
    scale.remove("2.moe.down_proj.weight_scale_inv")
    try expect(scale, .missingScale, vllm: .silent, sglang: .silent)
    var input = try SyntheticCheckpoint(.fp8Tensor)
    input.config.set(["quantization_config", "activation_scheme"], to: .string("static"))
    #expect(try input.report(.sglang).severity(.missingInputScale) == .silent)
    #expect(try input.report(.sglang).faults == [.missingInputScale])
  }

  // MARK: Shapes

  private func shaped(_ scheme: SyntheticScheme, _ suffix: String, _ shape: [Int]) throws
    -> SyntheticCheckpoint
  {
    var checkpoint = try SyntheticCheckpoint(scheme)
    checkpoint.change(suffix) { $0.shape = TensorShape(shape) }
    return checkpoint
  }

  @Test("too-few-experts: 47 are loaded by vLLM as if they were all")
  func tooFewExperts() throws {
    try expect(
      shaped(.bf16, "1.moe.up_proj.weight", [47, 1024, 512]), .tooFewExperts, vllm: .silent, sglang: .error)
  }

  @Test("too-many-experts: 49 stop vLLM; SGLang ignores the last")
  func tooManyExperts() throws {
    try expect(
      shaped(.bf16, "1.moe.up_proj.weight", [49, 1024, 512]), .tooManyExperts, vllm: .error, sglang: .silent)
  }

  @Test("transposed: a gate stored as [in, out] is a fault")
  func transposed() throws {
    try expect(
      shaped(.fp8Block, "1.moe.gate_proj.weight", [48, 512, 1024]), .transposed, vllm: .error, sglang: .error)
  }

  @Test("broadcast: one scale for all columns is repeated")
  func broadcast() throws {
    try expect(
      shaped(.w4a16, "1.moe.gate_proj.weight_scale", [48, 1024, 1]), .broadcast, vllm: .silent,
      sglang: .silent)
  }

  @Test("short-rows: missing columns stay uninitialised in vLLM")
  func shortRows() throws {
    let checkpoint = try shaped(.fp8Block, "1.moe.gate_proj.weight", [48, 1024, 384])
    #expect(try checkpoint.report(.vllm).severity(.shortRows) == .silent)
    #expect(try checkpoint.report(.vllm).faults == [.shortRows])
    #expect(try checkpoint.report(.sglang).faults == [.wrongShape])
  }

  @Test("wrong-shape: a linear layer of another width is a fault")
  func wrongShape() throws {
    try expect(
      shaped(.bf16, "0.self_attn.wq.weight", [2048, 255]), .wrongShape, vllm: .error, sglang: .error)
  }

  // MARK: Types

  private func typed(_ scheme: SyntheticScheme, _ suffix: String, _ type: ElementType) throws
    -> SyntheticCheckpoint
  {
    var checkpoint = try SyntheticCheckpoint(scheme)
    checkpoint.change(suffix) { $0.elementType = type }
    return checkpoint
  }

  @Test("wrong-type: BF16 values under the name of FP8 codes are a fault")
  func wrongType() throws {
    try expect(typed(.fp8Block, "1.moe.gate_proj.weight", .bf16), .wrongType, vllm: .silent, sglang: .silent)
    try expect(
      typed(.fp8Block, "1.moe.gate_proj.weight", .f8E5M2), .wrongType, vllm: .silent, sglang: .silent)
  }

  @Test("e8m0-scale: exponents of compressed-tensors' MXFP4 must be U8")
  func e8m0Scale() throws {
    let checkpoint = try typed(.mxfp4CT, "moe.gate_proj.weight_scale", .f8E8M0)
    #expect(try checkpoint.report(.vllm).faults == [.e8m0Scale])
    #expect(try typed(.mxfp4, "moe.gate_proj.weight_scale", .f8E8M0).report(.vllm).ok)
  }

  @Test("converted-type: a value in another number format is a warning")
  func convertedType() throws {
    try expect(typed(.bf16, "model.norm.weight", .f32), .convertedType, vllm: .warning, sglang: .warning)
    try expect(
      typed(.fp8Block, "moe.up_proj.weight_scale_inv", .bf16), .convertedType, vllm: .warning,
      sglang: .warning)
  }

  @Test("unequal-global-scales: an expert's gate and up must share one")
  func unequalGlobalScales() throws {
    var checkpoint = try SyntheticCheckpoint(.nvfp4A16)
    checkpoint.bytes["model.layers.2.moe.up_proj.weight_global_scale"] = [UInt8](repeating: 2, count: 48 * 4)
    try expect(checkpoint, .unequalGlobalScales, vllm: .silent, sglang: .error)
    var modelOpt = try SyntheticCheckpoint(.modelOptA16)
    modelOpt.bytes["model.layers.2.moe.up_proj.weight_scale_2"] = [UInt8](repeating: 2, count: 48 * 4)
    try expect(modelOpt, .unequalGlobalScales, vllm: .silent, sglang: .silent)
  }
}
