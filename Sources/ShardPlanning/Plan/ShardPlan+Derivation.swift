public import Quantization

// The operation of a tensor as the two enumerations that it was before it was one.

extension ShardPlan {
  /// What an output tensor holds of its source elements.
  public enum Derivation: String, Codable, Hashable, Sendable {
    /// The elements themselves.
    case values
    /// The codes of a scheme.
    case codes
    /// The scales of its tiles, rows or groups.
    case scales
    /// The scales of its matrices.
    case matrixScales
    /// The shape before packing.
    case shape
  }

  /// What has to be done to make an output tensor.
  public enum Making: String, Codable, Hashable, Sendable {
    /// Nothing: the bytes are the source's, or the boxes of them.
    case copy
    /// The source's codes and scales stay what they are, in another order or under another convention.
    case repack
    /// The values are converted to another element type, or encoded.
    case encode
  }
}

extension ShardPlan.Tensor {
  /// What of its sources it holds.
  public var derivation: ShardPlan.Derivation {
    switch operation.part {
    case nil: .values
    case .codes: .codes
    case .scales: .scales
    case .matrixScales: .matrixScales
    case .shape: .shape
    }
  }

  /// What has to be done for it.
  public var making: ShardPlan.Making {
    switch operation {
    case .copy: .copy
    case .convert, .encode, .shape: .encode
    case .pack, .unpack: .repack
    case .carry: isCopy && !movesMatrixScale ? .copy : .repack
    }
  }

  /// The scheme that it is a part of.
  public var scheme: StoredScheme? { operation.scheme }
  /// How the scales are chosen, where the scheme is encoded.
  public var search: ScaleSearch? { operation.search }
  /// The number of its matrices' group, where a scale per matrix is needed.
  public var scaleGroup: Int? { operation.scaleGroup }
  /// The name under which the importance matrix has weights for its columns.
  public var importance: String? { operation.importance }
}
