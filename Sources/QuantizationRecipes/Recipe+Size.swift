public import Checkpoint
public import TensorFormats

/// A model's size under a recipe.
public struct RecipeSize: Hashable, Sendable {
  /// Elements of all weights; scales do not count.
  public var parameters: Int
  /// The bytes of all tensors, scales included; file headers and padding are not.
  public var bytes: Int

  /// Makes a size of its two counts.
  public init(parameters: Int, bytes: Int) {
    self.parameters = parameters
    self.bytes = bytes
  }

  /// Bits per weight; 0 for a model without weights.
  public var bitsPerWeight: Double { parameters == 0 ? 0 : Double(bytes) * 8 / Double(parameters) }
}

extension Recipe {
  /// The size of a model under this recipe.
  ///
  /// Scale tensors of the source (role `scale`) count if their weight is kept; a re-encoded weight drops its scales.
  /// - Throws: What ``decide(_:in:obstacle:)`` throws, and `.unsupported` if the sum overflows.
  /// - Complexity: O(tensors).
  public func size(over subjects: [RecipeSubject], container: Checkpoint.Format) throws(CheckpointError)
    -> RecipeSize
  {
    var size = RecipeSize(parameters: 0, bytes: 0)
    var scales: [RecipeSubject] = []
    var kept: Set<String> = []
    for subject in subjects {
      if subject.role == .scale {
        scales.append(subject)
        continue
      }
      let decision = try decide(subject, in: container)
      if decision.format == .keep { kept.insert(subject.name) }
      try size.add(subject, as: decision.format, parameters: subject.shape.elementCount)
    }
    for scale in scales where kept.contains(String(scale.name.dropLast("_scale_inv".count))) {
      try size.add(scale, as: .keep, parameters: 0)
    }
    return size
  }

  /// Bits per weight of a model under this recipe: ``size(over:container:)`` as one number.
  ///
  /// - Throws: As ``size(over:container:)``.
  public func bitsPerWeight(
    over subjects: [RecipeSubject], container: Checkpoint.Format
  ) throws(CheckpointError) -> Double {
    try size(over: subjects, container: container).bitsPerWeight
  }
}

extension RecipeSize {
  fileprivate mutating func add(
    _ subject: RecipeSubject, as format: StorageFormat, parameters count: Int
  ) throws(CheckpointError) {
    guard let bytes = format.byteCount(subject.shape, source: subject.sourceType),
      case let (byteSum, false) = self.bytes.addingReportingOverflow(bytes),
      case let (parameterSum, false) = parameters.addingReportingOverflow(count)
    else {
      throw CheckpointError(
        .unsupported, "has no size as \(format), or the sum overflows (shape \(subject.shape))",
        tensor: subject.name)
    }
    self.bytes = byteSum
    self.parameters = parameterSum
  }
}
