package import Checkpoint
package import Quantization

/// A weight of an output checkpoint as far as engines are concerned: what its module is, and the scheme it is stored in.
package struct WrittenWeight {
  /// What messages call it.
  package let name: String
  /// Its published name.
  package let publishedName: String
  /// What it is for.
  package let role: TensorRole
  /// Its layer, where it has one.
  package let layer: Int?
  /// How many dimensions its values have.
  package let rank: Int
  /// Whether the outermost dimension counts experts.
  package let isExpertStack: Bool
  /// Whether it is in a layer that predicts further tokens.
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
