internal import Step3Model

extension EngineModel.Rules {
  /// The row for one engine and one member; `nil` if the engine has no class for it.
  ///
  /// Sources: vLLM 0.33 (`model_executor/models/step3_text.py`, `step3_vl.py`, `step3p5.py`, `step3p7.py`, `step_vl.py`,
  /// `models/step5/nvidia/model.py` and `vl.py`); SGLang 0.5.23 (`srt/models/step3_vl.py`, `step3p5.py`, `step3p7.py`,
  /// `step3_vl_10b.py`, `qwen3.py`).
  static func of(_ engine: Engine, _ family: ModelFamily) -> Self? {
    switch engine {
    case .vllm: vllm(family)
    case .sglang: sglang(family)
    }
  }

  private static func vllm(_ family: ModelFamily) -> Self {
    switch family {
    case .step3:
      return Self(
        architectures: [("Step3VLForConditionalGeneration", true), ("Step3TextForCausalLM", false)],
        languagePrefix: "language_model.", experts: "moe.experts",
        prefixes: [("language_model.", "")], expertSuffixes: .weights, queriesByRows: true)
    case .step3VL10B:
      return Self(
        architectures: [("StepVLForConditionalGeneration", true)],
        languageArchitectures: ["Qwen3ForCausalLM"],
        languagePrefix: "language_model.", experts: "moe.experts", knowsMembers: true,
        prefixes: [("language_model.", "")], quantizesHead: true, quantizesVision: true)
    case .step3p5, .step3p7:
      let isText = family == .step3p5
      return Self(
        architectures: [
          isText ? ("Step3p5ForCausalLM", false) : ("Step3p7ForConditionalGeneration", true)
        ],
        languageArchitectures: isText ? [] : ["Step3p5ForCausalLM"], languagePrefix: "language_model.",
        sharedParent: "moe.share_expert", experts: "moe.experts", knowsMembers: true,
        prefixes: isText ? [] : wrapped, prefixesAreCommon: true, unknown: .drops,
        expertSuffixes: .weightsAndInputScale, takesSingleExperts: true, countsExperts: true,
        broadcastsScalars: true,
        quantizesGates: true, quantizesHead: true, quantizesVision: true, skipsPrediction: true)
    case .step5:
      return Self(
        architectures: [("Step5ForConditionalGeneration", true), ("Step5ForCausalLM", false)],
        languageArchitectures: ["Step5ForCausalLM"], languagePrefix: "language_model.",
        sharedParent: "moe.share_expert", experts: "moe.experts", knowsMembers: true, prefixes: wrapped,
        prefixesAreCommon: true, unknown: .drops, expertSuffixes: .weightsAndInputScale,
        countsExperts: true, takesFusedPlainQueries: false, quantizesGates: true, quantizesHead: true,
        quantizesVision: true,
        skipsPrediction: true)
    }
  }

  private static func sglang(_ family: ModelFamily) -> Self? {
    switch family {
    case .step3:
      return Self(architectures: [("Step3VLForConditionalGeneration", true)], experts: "mlp.experts")
    case .step3VL10B:
      // The constructors swap the two arguments of the function that joins names, which leaves an extra dot.
      return Self(
        architectures: [("StepVLForConditionalGeneration", true)], languagePrefix: "language_model..",
        experts: "mlp.experts", unknown: .drops, quantizesHead: true, quantizesVision: true,
        visionTower: "vision_model..transformer", visionOutput: "attn.proj")
    case .step3p5, .step3p7:
      let isText = family == .step3p5
      return Self(
        architectures: [
          isText ? ("Step3p5ForCausalLM", false) : ("Step3p7ForConditionalGeneration", true)
        ],
        languagePrefix: "language_model.", experts: "mlp.experts", prefixes: isText ? [] : wrapped,
        prefixesAreCommon: true, unknown: .drops, quantizesHead: true, countsParameters: true,
        skipsPrediction: true)
    // 0.5.23 has no class for it.
    case .step5: return nil
    }
  }

  /// Forms in which releases of Step-3.7-Flash wrap the names of the two sides; both engines unwrap them.
  private static let wrapped = [
    (disk: "model.language_model.", published: "model."),
    (disk: "language_model.model.", published: "model."),
    (disk: "language_model.lm_head.", published: "lm_head."),
    (disk: "model.vision_model.", published: "vision_model."),
    (disk: "model.vit_large_projector.", published: "vit_large_projector."),
  ]
}
