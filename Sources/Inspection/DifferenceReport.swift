public import Checkpoint
internal import Comparison
internal import StoredWeights
public import ParallelWork
public import TensorFormats

/// How two checkpoints differ.
public struct DifferenceReport: Encodable, Sendable {
  /// What became of a tensor that both have.
  public enum Outcome: String, Encodable, Sendable, CaseIterable {
    /// Same type, same bytes, those of the scales too.
    case identical
    /// Stored differently, every value equal.
    case sameValues
    /// Values differ.
    case different
    /// The shapes differ, so that values have no counterparts.
    case shape
    /// The bytes or types differ, and there is no way to compare the values.
    case notCompared
  }

  /// One side of a pair.
  public struct Side: Encodable, Sendable {
    /// The tensor of its values, or of its codes where scales are in tensors of their own.
    public let name: String
    /// How that tensor's elements are stored.
    public let dtype: ElementType
    /// As it is stored: words of packed codes, rows of a fused module.
    public let shape: TensorShape
    /// The file that holds it, below the checkpoint's directory.
    public let file: String
  }

  /// Which elements of a tensor a pair has in common, where one side is cut into parts.
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
    /// The published name of the weight where a side stores several weights as one tensor, as engines fuse queries, keys
    /// and values; `nil` elsewhere.
    public let weight: String?
    /// What was compared; `nil` for all of the tensor.
    public let slice: Slice?
    public let outcome: Outcome
    /// How the values differ; `nil` unless they were compared and do.
    public let errors: Errors?
    /// Why the values were not compared, or how they were; `nil` where there is nothing to say.
    public let note: String?
  }

  /// What the user named.
  public let pathA: String
  public let pathB: String
  /// Whether every tensor of one has its counterpart in the other with the same shape and the same values.
  public let equal: Bool
  /// Names that only the first has.
  public let onlyInA: [String]
  /// Names that only the second has.
  public let onlyInB: [String]
  /// Tensors of which both have elements, but not the same ones, as when one part is compared with the whole model.
  public let incomplete: [Incomplete]
  /// How many pairs came out how. Where a side is cut into parts, each part that has something of a tensor is a pair.
  public let summary: Summary
  /// The pairs that are not identical, in the order of the first checkpoint.
  public let pairs: [Pair]

  /// How many pairs came out how.
  public struct Summary: Encodable, Hashable, Sendable {
    public internal(set) var identical = 0
    public internal(set) var sameValues = 0
    public internal(set) var different = 0
    public internal(set) var shape = 0
    public internal(set) var notCompared = 0

    mutating func count(_ outcome: Outcome) {
      switch outcome {
      case .identical: identical += 1
      case .sameValues: sameValues += 1
      case .different: different += 1
      case .shape: shape += 1
      case .notCompared: notCompared += 1
      }
    }
  }
}

extension DifferenceReport {
  /// Compares two checkpoints, tensor by tensor, reading both once.
  ///
  /// - Parameters:
  ///   - exact: Tensors whose values are equal but whose types or bytes differ count as different too.
  /// - Throws: `CheckpointError` if a file cannot be read, `CancellationError`.
  public init(
    _ a: Checkpoint, _ b: Checkpoint, exact: Bool = false, threads: Int, monitor: WorkMonitor = WorkMonitor()
  ) async throws {
    let weightsA = try ModelWeights(a, unread: .asStored)
    let weightsB = try ModelWeights(b, unread: .asStored)
    let matches = try WeightPairing([.init(weightsA)], weightsB, with: .pieces).matches
    let comparisons = matches.flatMap { $0.pairs.map { ElementComparison($0) } }
    let differences = try await comparisons.run(threads: threads, monitor: monitor)

    var found = zip(comparisons, differences).makeIterator()
    var summary = Summary()
    var pairs: [Pair] = []
    for match in matches {
      var outcomes = match.pairs.compactMap { _ in found.next().map { Pair($0, $1) } }
      if let shapes = Pair(shapesOf: match, weightsA, weightsB) { outcomes.append(shapes) }
      for pair in outcomes {
        summary.count(pair.outcome)
        if pair.outcome != .identical { pairs.append(pair) }
      }
    }
    pathA = a.path
    pathB = b.path
    onlyInA = matches.compactMap { $0.b == nil ? $0.a?.nameOnDisk : nil }
    onlyInB = matches.compactMap { $0.a == nil ? $0.b?.nameOnDisk : nil }
    incomplete = matches.compactMap { Incomplete($0) }
    self.summary = summary
    self.pairs = pairs
    equal =
      onlyInA.isEmpty && onlyInB.isEmpty && incomplete.isEmpty && summary.different == 0 && summary.shape == 0
      && summary.notCompared == 0 && (!exact || summary.sameValues == 0)
  }

  /// The bytes that comparing two checkpoints reads at most.
  public static func workload(_ a: Checkpoint, _ b: Checkpoint) -> Int {
    (a.tensors + b.tensors).reduce(0) { $0 + $1.byteRange.count }
  }
}
