internal import Checkpoint

/// A name under which others than its publisher have saved a tensor of a Step-3, taken apart.
///
/// Frameworks that wrap the language model put a prefix before its names, and some save every expert by itself. Only
/// names that are published ones without these count: nothing is guessed.
///
/// | found | published |
/// |---|---|
/// | `model.language_model.layers.…`, `language_model.model.layers.…` | `model.layers.…` |
/// | `language_model.lm_head.…`, `model.language_model.lm_head.…` | `lm_head.…` |
/// | `model.vision_model.…`, `model.vit_…` | `vision_model.…`, `vit_…` |
/// | `….moe.experts.7.up_proj.weight`, `….moe.7.up_proj.weight`, `….mlp.experts.7.up_proj.weight` | row 7 of `….moe.up_proj.weight` |
public struct Step3NameVariant: Hashable, Sendable {
  /// The published name.
  public let published: Step3TensorName
  /// The expert that the tensor is of; `nil` where all of them are in one tensor, as published.
  public let expert: Int?

  /// Takes a name apart; `nil` for published names and for those of no such form.
  public init?(_ name: String) {
    guard Step3TensorName(huggingFace: name) == nil else { return nil }
    for candidate in Self.unwrapped(name) {
      if let known = Step3TensorName(huggingFace: candidate) {
        (published, expert) = (known, nil)
        return
      }
      if let (known, number) = Self.expert(candidate) {
        (published, expert) = (known, number)
        return
      }
    }
    return nil
  }

  /// The name itself and what it would be without a wrapper.
  private static func unwrapped(_ name: String) -> [String] {
    let prefixes = [
      ("model.language_model.model.", ["model."]), ("model.language_model.", ["model.", ""]),
      ("language_model.model.", ["model."]), ("language_model.", [""]), ("model.", [""]),
    ]
    return [name]
      + prefixes.flatMap { prefix, replacements in
        name.hasPrefix(prefix) ? replacements.map { $0 + name.dropFirst(prefix.count) } : []
      }
  }

  /// What a tensor that is no part of the model would be called without the wrapper that others of its file have; `nil`
  /// if it has none. (`model.` alone is no wrapper: published names begin with it.)
  public static func unwrappedStranger(_ name: String) -> String? {
    for (prefix, replacement) in [
      ("model.language_model.model.", "model."), ("model.language_model.", "model."),
      ("language_model.model.", "model."),
    ] where name.hasPrefix(prefix) {
      return replacement + name.dropFirst(prefix.count)
    }
    return nil
  }

  private static func expert(_ name: String) -> (Step3TensorName, Int)? {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard parts.count >= 6, parts[0] == "model", parts[1] == "layers" else { return nil }
    let rest: [String]
    if ["moe", "mlp"].contains(parts[3]), parts[4] == "experts" {
      rest = Array(parts[5...])
    } else if parts[3] == "moe" {
      rest = Array(parts[4...])
    } else {
      return nil
    }
    guard let first = rest.first, let number = Int(first), String(number) == first, number >= 0,
      let known = Step3TensorName(
        huggingFace: "model.layers.\(parts[2]).moe." + rest.dropFirst().joined(separator: ".")),
      known.role == .routedExperts || known.weight.role == .routedExperts
    else { return nil }
    return (known, number)
  }
}
