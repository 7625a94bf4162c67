/// A member of the Step family, which determines its checkpoints' ``ModelDescription`` and forward pass.
///
/// A checkpoint whose configuration names none of them is an unknown model, about which nothing is assumed.
public enum ModelFamily: String, Hashable, Sendable, CaseIterable, Codable {
  /// Step-3 (arXiv 2507.19427).
  case step3
  /// Step-3.5-Flash: text only.
  case step3p5
  /// Step-3.7-Flash: the language model of Step-3.5-Flash with a vision side.
  case step3p7
  /// Step-5-Preview.
  case step5
  /// Step3-VL-10B: Qwen3's dense language model with the vision side of Step-3.7-Flash.
  case step3VL10B = "step3-vl-10b"

  /// The name for users.
  public var name: String {
    switch self {
    case .step3: "Step-3"
    case .step3p5: "Step-3.5-Flash"
    case .step3p7: "Step-3.7-Flash"
    case .step5: "Step-5-Preview"
    case .step3VL10B: "Step3-VL-10B"
    }
  }

  /// Its modules.
  public var model: ModelDescription {
    switch self {
    case .step3: .step3
    case .step3p5: .step3p5
    case .step3p7: .step3p7
    case .step5: .step5
    case .step3VL10B: .step3VL10B
    }
  }

  /// The models' names in `config.json`: `model_type` and `architectures`, including those of the language model alone.
  ///
  /// Sources: the published configurations; of Step-5-Preview those of its BF16 copies, and the names that vLLM 0.33
  /// has for it. Step3-VL-10B shares its `model_type` with others, so its architecture decides.
  private var names: (types: [String], architectures: [String]) {
    switch self {
    case .step3: (["step3_vl", "step3_text"], ["Step3VLForConditionalGeneration", "Step3TextForCausalLM"])
    case .step3p5: (["step3p5"], ["Step3p5ForCausalLM"])
    case .step3p7: (["step3p7"], ["Step3p7ForConditionalGeneration"])
    case .step5:
      (
        ["step3p5v", "step4", "step5_vl", "step5"],
        [
          "MMGPTStepRoboticsForCausalLM", "Step4ForCausalLM", "Step5ForConditionalGeneration",
          "Step5ForCausalLM",
        ]
      )
    case .step3VL10B: ([], ["StepVLForConditionalGeneration"])
    }
  }

  /// The family of a `config.json` of that `model_type` or those `architectures`; `nil` for an unknown model.
  package init?(modelType: String?, architectures: [String]) {
    guard
      let family = Self.allCases.first(where: { family in modelType.map(family.names.types.contains) ?? false
      })
        ?? Self.allCases.first(where: { !Set($0.names.architectures).isDisjoint(with: architectures) })
    else { return nil }
    self = family
  }

  /// The family of a GGUF model; `nil` for an unknown one.
  ///
  /// - Parameters:
  ///   - ggufArchitecture: Its `general.architecture`.
  ///   - projector: The projector named in the vision side's file, which tells what a language model that
  ///     others have too belongs to.
  package init?(ggufArchitecture: String?, projector: String?) {
    switch (ggufArchitecture, projector) {
    case ("step3", _): self = .step3
    case ("step35", Self.perceptionProjector): self = .step3p7
    case ("step35", _): self = .step3p5
    case ("qwen3", Self.perceptionProjector): self = .step3VL10B
    default: return nil
    }
  }

  /// The `clip.projector_type` of Step3-VL-10B and its successors.
  static let perceptionProjector = "step3vl"
}
