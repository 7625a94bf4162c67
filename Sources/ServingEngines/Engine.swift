/// A serving engine whose loader is replayed.
public enum Engine: String, Hashable, Sendable, CaseIterable, Codable {
  case vllm, sglang

  /// The name for users.
  public var name: String {
    switch self {
    case .vllm: "vLLM"
    case .sglang: "SGLang"
    }
  }

  /// The release whose loader the rules were taken from and tested with.
  public var version: String {
    switch self {
    case .vllm: "0.33"
    case .sglang: "0.5.23"
    }
  }

  /// What it does about a parameter that no tensor fills: vLLM checks for this, but only in an unquantised model;
  /// SGLang never does.
  func unfilled(isQuantized: Bool) -> (severity: EngineFinding.Severity, consequence: String) {
    switch self {
    case .vllm where !isQuantized:
      (.error, "vLLM stops: ValueError, weights were not initialized from the checkpoint")
    case .vllm: (.silent, "vLLM serves with uninitialised memory: it skips its check for quantised models")
    case .sglang: (.silent, "SGLang serves with uninitialised memory: it does not check for this")
    }
  }
}
