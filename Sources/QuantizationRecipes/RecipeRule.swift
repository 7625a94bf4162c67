public import Checkpoint
public import Patterns
public import TensorFormats

/// One rule of a recipe: which tensors, and how to store them.
///
/// An empty or `nil` condition holds for every tensor; a rule applies if all its conditions hold.
public struct RecipeRule: Hashable, Sendable, Codable {
  /// The tensor has one of these roles.
  public var roles: [TensorRole]
  /// The tensor is in a layer that one of these selects. A tensor outside the layers is in none.
  public var layers: [LayerSelector]
  /// One of the tensor's names matches one of these.
  public var names: [NamePattern]
  /// The tensor is (or is not) a stack of experts.
  public var isExpertStack: Bool?
  /// The model has exactly this many routed experts per layer.
  public var expertCount: Int?
  /// The model uses (or does not use) its embedding as the output projection.
  public var hasTiedEmbedding: Bool?
  /// Engines load (or do not load) the tensor as a linear layer that a scheme may quantise.
  public var isLinear: Bool?
  /// What the tensor is stored as.
  public var format: StorageFormat
  /// What to do if that does not fit; `nil` leaves it to the recipe.
  public var fallback: Fallback?
  /// Whether the rule may decide no tensor at all.
  public var isOptional: Bool

  /// Makes a rule; omitted arguments are not conditions.
  public init(
    roles: [TensorRole] = [], layers: [LayerSelector] = [], names: [NamePattern] = [],
    isExpertStack: Bool? = nil, expertCount: Int? = nil, hasTiedEmbedding: Bool? = nil,
    isLinear: Bool? = nil, format: StorageFormat, fallback: Fallback? = nil, isOptional: Bool = false
  ) {
    self.roles = roles
    self.layers = layers
    self.names = names
    self.isExpertStack = isExpertStack
    self.expertCount = expertCount
    self.hasTiedEmbedding = hasTiedEmbedding
    self.isLinear = isLinear
    self.format = format
    self.fallback = fallback
    self.isOptional = isOptional
  }

  /// Whether the rule applies to a tensor. Cheap conditions are checked first.
  ///
  /// - Throws: `.invalidRequest` for a pattern that takes too long.
  public func matches(_ subject: RecipeSubject) throws(CheckpointError) -> Bool {
    try matches(subject, names: subject.nameBytes)
  }

  func matches(
    _ subject: RecipeSubject, names subjectNames: [NameBytes]
  ) throws(CheckpointError) -> Bool {
    if !roles.isEmpty, !roles.contains(subject.role) { return false }
    if let isExpertStack, isExpertStack != subject.isExpertStack { return false }
    if let expertCount, expertCount != subject.expertCount { return false }
    if let hasTiedEmbedding, hasTiedEmbedding != subject.hasTiedEmbedding { return false }
    if let isLinear, isLinear != subject.isLinear { return false }
    if !layers.isEmpty {
      guard let layer = subject.layer, layers.contains(where: { $0.contains(layer, of: subject.layerCount) })
      else { return false }
    }
    if names.isEmpty { return true }
    for pattern in names {
      for name in subjectNames where try pattern.matches(name) { return true }
    }
    return false
  }
}

extension RecipeRule: CustomStringConvertible {
  /// `role attention, layers 0-3, name '*.v_proj.weight' -> Q6_K`
  public var description: String {
    var conditions: [String] = []
    if !roles.isEmpty { conditions.append("role " + roles.map(\.rawValue).joined(separator: "|")) }
    if !layers.isEmpty { conditions.append("layers " + layers.map(\.description).joined(separator: ", ")) }
    if !names.isEmpty { conditions.append(names.map(\.description).joined(separator: "|")) }
    if let isExpertStack { conditions.append(isExpertStack ? "expert stacks" : "no expert stacks") }
    if let expertCount { conditions.append("\(expertCount) experts") }
    if let hasTiedEmbedding { conditions.append(hasTiedEmbedding ? "tied embedding" : "untied embedding") }
    if let isLinear { conditions.append(isLinear ? "linear layers" : "what engines never quantise") }
    return (conditions.isEmpty ? "everything" : conditions.joined(separator: ", ")) + " -> \(format)"
  }
}
