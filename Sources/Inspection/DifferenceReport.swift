public import TensorFormats

/// How two checkpoints differ.
public struct DifferenceReport: Encodable, Sendable {
  /// The outcome for a tensor that both have.
  public enum Outcome: String, Encodable, Sendable, CaseIterable {
    /// Same type and same bytes, including scales.
    case identical
    /// Stored differently, every value equal.
    case sameValues
    /// Values differ.
    case different
    /// The shapes differ, so that values have no counterparts.
    case shape
    /// The bytes or types differ, and the values cannot be compared.
    case notCompared
    /// Same shape, same type and scheme; values were not compared.
    case sameHeader
    /// Same shape, but another type or scheme; values were not compared.
    case otherType
  }

  /// One side of a pair.
  public struct Side: Encodable, Sendable {
    /// The tensor of its values, or of its codes if scales are separate tensors.
    public let name: String
    /// How that tensor's elements are stored.
    public let dtype: ElementType
    /// As stored: words of packed codes, rows of a fused module.
    public let shape: TensorShape
    /// The file that holds it, below the checkpoint's directory.
    public let file: String
  }

  /// The elements of a tensor that a pair has in common, if one side is partitioned.
  public struct Slice: Encodable, Hashable, Sendable {
    /// The first index along each dimension of the whole tensor.
    public let origin: [Int]
    /// How many indices along each.
    public let extent: [Int]
  }

  /// A tensor of which one side has elements that the other lacks.
  public struct Incomplete: Encodable, Hashable, Sendable {
    /// The name in the first checkpoint.
    public let name: String
    /// The elements of the whole tensor.
    public let elements: Int
    public let inA: Int
    public let inB: Int
    public let inBoth: Int
  }

  /// How the values of a pair differ.
  public struct Errors: Encodable, Hashable, Sendable {
    /// Elements that differ.
    public let count: Int
    /// ‖a − b‖ / ‖a‖ in F64, over all elements whose values are finite on both sides; `nil` if all of the first's are
    /// zero and the second's are not.
    public let relative: Double?
    /// The largest absolute difference of two finite values.
    public let maxAbs: Double
    /// The root of the mean square of the differences, over all elements whose values are finite on both sides.
    public let rmse: Double
    /// The index of the first element that differs, row-major in the whole tensor; `nil` if none does.
    public let firstIndex: Int?
    /// Elements that differ because one side is NaN or infinite.
    public let nonFinite: Int
  }

  /// A tensor that both have.
  public struct Pair: Encodable, Sendable {
    public let a: Side
    public let b: Side
    /// The published name of the weight if a side stores several weights as one tensor, as engines fuse queries, keys
    /// and values; `nil` otherwise.
    public let weight: String?
    /// What was compared; `nil` for all of the tensor.
    public let slice: Slice?
    public let outcome: Outcome
    /// How the values differ; `nil` unless they were compared and do.
    public let errors: Errors?
    /// Why the values were not compared, or how they were; `nil` if there is nothing to note.
    public let note: String?
  }

  /// The order of pairs in the report.
  public enum Order: String, Sendable, CaseIterable {
    /// Different shapes first, then pairs that cannot be compared, then those that differ: non-finite values first,
    /// then by descending relative error. Ties are in the stored order.
    case worst
    /// That of the first checkpoint.
    case stored
  }

  /// The user's path.
  public let pathA: String
  public let pathB: String
  /// Whether only headers were compared.
  public let headersOnly: Bool
  /// Whether every tensor of one has its counterpart in the other with the same shape and the same values; if only headers
  /// were compared, with the same shape, type and scheme.
  public let equal: Bool
  /// Names that only the first has.
  public let onlyInA: [String]
  /// Names that only the second has.
  public let onlyInB: [String]
  /// Tensors of which both have elements, but different ones, as when one part is compared with the whole model.
  public let incomplete: [Incomplete]
  /// The number of pairs per outcome. If a side is partitioned, each part with elements of a tensor is a pair.
  public let summary: Summary
  /// The pairs that are not identical, in the requested order.
  public let pairs: [Pair]

  /// The number of pairs per outcome.
  public struct Summary: Encodable, Hashable, Sendable {
    public internal(set) var identical = 0
    public internal(set) var sameValues = 0
    public internal(set) var different = 0
    public internal(set) var shape = 0
    public internal(set) var notCompared = 0
    public internal(set) var sameHeader = 0
    public internal(set) var otherType = 0
    private let headersOnly: Bool

    init(headersOnly: Bool) { self.headersOnly = headersOnly }

    private enum CodingKeys: String, CodingKey {
      case identical, sameValues, different, shape, notCompared, sameHeader, otherType
    }

    /// Encodes the possible outcomes: those for headers or those for values.
    public func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      if headersOnly {
        try container.encode(sameHeader, forKey: .sameHeader)
        try container.encode(otherType, forKey: .otherType)
        try container.encode(shape, forKey: .shape)
      } else {
        try container.encode(identical, forKey: .identical)
        try container.encode(sameValues, forKey: .sameValues)
        try container.encode(different, forKey: .different)
        try container.encode(shape, forKey: .shape)
        try container.encode(notCompared, forKey: .notCompared)
      }
    }

    mutating func count(_ outcome: Outcome) {
      switch outcome {
      case .identical: identical += 1
      case .sameValues: sameValues += 1
      case .different: different += 1
      case .shape: shape += 1
      case .notCompared: notCompared += 1
      case .sameHeader: sameHeader += 1
      case .otherType: otherType += 1
      }
    }
  }
}
