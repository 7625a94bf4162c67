package import Checkpoint
package import Quantization

/// A weight of an output checkpoint as engines see it: its module, and its scheme.
package struct WrittenWeight {
  /// The name in messages.
  package let name: String
  /// Its published name.
  package let publishedName: String
  /// Its role.
  package let role: TensorRole
  /// Its layer, if any.
  package let layer: Int?
  /// The number of dimensions of its values.
  package let rank: Int
  /// Whether the outermost dimension counts experts.
  package let isExpertStack: Bool
  /// Whether it is in a multi-token prediction layer.
  package let predicts: Bool
  /// The scheme; `nil` for plain values.
  package let scheme: StoredScheme?

  /// Describes a weight.
  package init(
    name: String, publishedName: String, role: TensorRole, layer: Int?, rank: Int, isExpertStack: Bool,
    predicts: Bool, scheme: StoredScheme?
  ) {
    self.name = name
    self.publishedName = publishedName
    self.role = role
    self.layer = layer
    self.rank = rank
    self.isExpertStack = isExpertStack
    self.predicts = predicts
    self.scheme = scheme
  }
}
