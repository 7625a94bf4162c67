/// A member of the Step family: which ``ModelDescription`` its checkpoints follow, and which forward pass is theirs.
///
/// A checkpoint whose configuration names none of them is of an unknown model, of which nothing is assumed.
public enum ModelFamily: String, Hashable, Sendable, CaseIterable, Codable {
  /// Step-3 (arXiv 2507.19427).
  case step3

  /// What people call it.
  public var name: String {
    switch self {
    case .step3: "Step-3"
    }
  }

  /// Its modules.
  public var model: ModelDescription {
    switch self {
    case .step3: .step3
    }
  }

  /// The family of a `config.json` of that `model_type` or those `architectures`; `nil` for an unknown model.
  init?(modelType: String?, architectures: [String]) {
    switch modelType {
    case "step3_vl", "step3_text": self = .step3
    default:
      guard
        architectures.contains(where: {
          ["Step3VLForConditionalGeneration", "Step3TextForCausalLM"].contains($0)
        })
      else { return nil }
      self = .step3
    }
  }

  /// The family of a GGUF file of that `general.architecture`; `nil` for an unknown model.
  init?(ggufArchitecture: String?) {
    switch ggufArchitecture {
    case "step3": self = .step3
    default: return nil
    }
  }
}
