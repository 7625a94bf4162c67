internal import Patterns
package import QuantizationRecipes
package import TensorFormats

/// A choice for each tensor as a recipe with few rules: one for each kind of tensor and each format, with its layers.
package struct BudgetRecipe {
  /// All tensors of the output, chosen or not.
  let tensors: [Tensor]
  /// The chosen formats.
  let choices: [String: ElementType]

  /// A tensor of the output.
  package struct Tensor {
    let name: String
    let layer: Int?

    /// Describes a tensor by its name in GGUF.
    package init(name: String, layer: Int?) {
      self.name = name
      self.layer = layer
    }
  }

  /// Describes a choice.
  package init(tensors: [Tensor], choices: [String: ElementType]) {
    self.tensors = tensors
    self.choices = choices
  }

  /// The recipe.
  ///
  /// - Parameters:
  ///   - base: The recipe for the other tensors.
  ///   - pins: How many of its first rules come before the choice.
  ///   - used: The rules of the base that decide some other tensor.
  package func recipe(named name: String, summary: String, base: Recipe, pins: Int, used: Set<Int>) -> Recipe
  {
    var recipe = base
    recipe.name = name
    recipe.summary = summary
    recipe.container = nil
    recipe.knownSubject = nil
    let left = base.rules.indices.filter { $0 >= pins && used.contains($0) }.map { index in
      var rule = base.rules[index]
      rule.isOptional = true
      return rule
    }
    recipe.rules = base.rules.prefix(pins) + rules + left
    return recipe
  }

  /// A kind of tensor: its name with a placeholder for the layer.
  private struct Kind: Hashable {
    let name: String
    let isLayered: Bool

    init(_ tensor: Tensor) {
      let parts = tensor.name.split(separator: ".", maxSplits: 2, omittingEmptySubsequences: false)
      isLayered = parts.count == 3 && tensor.layer.map { String($0) == parts[1] } == true
      name = isLayered ? "\(parts[0]).*.\(parts[2])" : tensor.name
    }
  }

  private var rules: [RecipeRule] {
    var kinds: [Kind] = []
    var layers: [Kind: [(format: ElementType, layers: [Int])]] = [:]
    for tensor in tensors {
      guard let format = choices[tensor.name] else { continue }
      let kind = Kind(tensor)
      if layers[kind] == nil { kinds.append(kind) }
      let place = layers[kind]?.firstIndex { $0.format == format }
      if let place {
        layers[kind]?[place].layers.append(tensor.layer ?? 0)
      } else {
        layers[kind, default: []].append((format, [tensor.layer ?? 0]))
      }
    }
    let all = Dictionary(grouping: tensors, by: Kind.init).mapValues(\.count)
    return kinds.flatMap { kind in
      let formats = layers[kind] ?? []
      let isEverywhere = formats.count == 1 && formats[0].layers.count == all[kind]
      return formats.map { format, layers in
        RecipeRule(
          layers: kind.isLayered && !isEverywhere ? Self.selectors(layers) : [], names: [Self.pattern(kind)],
          format: .element(format), fallback: .error)
      }
    }
  }

  /// A name with glob characters becomes a regular expression.
  private static func pattern(_ kind: Kind) -> NamePattern {
    guard !kind.isLayered, kind.name.contains(where: { $0 == "*" || $0 == "?" }) else {
      return .glob(kind.name)
    }
    let escaped = kind.name.map { $0.isLetter || $0.isNumber || $0 == "_" ? "\($0)" : "\\\($0)" }.joined()
    return (try? .regex("^\(escaped)$")) ?? .glob(kind.name)
  }

  /// Layers as ranges: `0-3, 7`.
  private static func selectors(_ layers: [Int]) -> [LayerSelector] {
    var ranges: [ClosedRange<Int>] = []
    for layer in layers.sorted() {
      if let last = ranges.last, last.upperBound + 1 == layer {
        ranges[ranges.count - 1] = last.lowerBound...layer
      } else {
        ranges.append(layer...layer)
      }
    }
    return ranges.map(LayerSelector.range)
  }
}
