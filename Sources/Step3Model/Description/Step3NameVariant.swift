/// The parsed name of a Step-3 tensor that was saved under other than its published name.
///
/// Frameworks that wrap the language model prefix its names, and some save every expert separately. Only names that
/// become published ones without these are recognised: nothing is guessed.
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
  /// The expert that the tensor belongs to; `nil` if all are in one tensor, as published.
  public let expert: Int?

  /// Parses a name; `nil` for published names and for any other form.
  public init?(_ name: String, in model: ModelDescription) {
    guard model.tensor(published: name) == nil else { return nil }
    for candidate in Self.unwrapped(name) {
      if let known = model.tensor(published: candidate) {
        (published, expert) = (known, nil)
        return
      }
      if let (known, number) = Self.expert(candidate, in: model) {
        (published, expert) = (known, number)
        return
      }
    }
    return nil
  }

  /// The name itself and its form without a wrapper.
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

  /// The name without its wrapper of a tensor that is not part of the model; `nil` if it has none. (`model.` alone is
  /// not a wrapper: published names begin with it.)
  public static func unwrappedStranger(_ name: String) -> String? {
    for (prefix, replacement) in [
      ("model.language_model.model.", "model."), ("model.language_model.", "model."),
      ("language_model.model.", "model."),
    ] where name.hasPrefix(prefix) {
      return replacement + name.dropFirst(prefix.count)
    }
    return nil
  }

  /// `model.layers.3.moe.experts.7.up_proj.weight`: the stack's name with the expert's number, after the stack's
  /// parent or the engines' name for it.
  private static func expert(_ name: String, in model: ModelDescription) -> (Step3TensorName, Int)? {
    guard name.hasPrefix(model.textLayers.published) else { return nil }
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    for row in model.modules where row.expertAxis != nil {
      for container in [row.parentName] + row.engineNames {
        // The number follows prefix, layer and container.
        let layers = model.textLayers.published.split(separator: ".").count
        let place = layers + 1 + container.split(separator: ".").count
        guard place + 1 < parts.count, let number = Int(parts[place]), String(number) == parts[place],
          number >= 0, parts[(layers + 1)..<place].joined(separator: ".") == container,
          parts[place + 1] == row.ownName,
          let known = model.tensor(
            published: (parts[...layers] + [row.parentName[...]] + parts[(place + 1)...]).joined(
              separator: ".")),
          known.module == row.module
        else { continue }
        return (known, number)
      }
    }
    return nil
  }
}
