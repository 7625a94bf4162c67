internal import Checkpoint
public import ShardPlanning
public import Step3Model
internal import TensorFormats

/// The weights of an unpartitioned model by how ranks divide them: what each rank loads in any ``ServingLayout``.
///
/// Sizes are those of the plan's tensors, scales included. How they are divided follows from the family's table, as in
/// vLLM 0.33 and SGLang 0.5.23: heads and intermediate lengths are cut; embedding and output projection are cut along
/// the vocabulary (padded); the matrices of the vision tower's layers are cut by heads and intermediate length.
/// Everything else, including unknown tensors, is whole on every rank.
public struct RankedWeights: Sendable {
  /// How a tensor is divided.
  private enum Division: Hashable {
    case whole
    case words
    /// Equal slices along an axis, each of whole units.
    case slices(extent: Int, unit: Int)
    /// The same while there are enough heads for the ranks; beyond that several ranks hold the same one.
    case keyValueHeads(heads: Int, extent: Int, unit: Int)
    /// Stacked experts; without an extent to cut, every slice holds it whole.
    case experts(count: Int, extent: Int?, unit: Int)
  }

  private struct Portion {
    var bytes = 0
    let example: String
  }

  private var portions: [Division: Portion] = [:]
  private let text: Step3Configuration.Text
  private let dividesKeyValueHeads: Bool
  /// Heads of the vision tower, if the plan has one.
  private var visionHeads: Int?
  /// Whether layers that predict further tokens are among the tensors.
  public private(set) var predicts = false

  /// Sorts the tensors of a plan's only part.
  ///
  /// - Precondition: The plan is not partitioned.
  public init(_ plan: ShardPlan, _ configuration: Step3Configuration) {
    precondition(plan.parts.count == 1, "parts of a partition are already ranks")
    text = configuration.text
    dividesKeyValueHeads = configuration.family != .step3
    let model = configuration.family.model
    for tensor in plan.parts[0].tensors {
      let name =
        plan.request.format == .gguf
        ? model.tensor(gguf: tensor.name) : model.tensor(published: tensor.name)
      if let name {
        if configuration.predicts(name) { predicts = true }
        if model.row(of: name).scope == .visionLayer { visionHeads = configuration.vision?.headCount }
      }
      let division = name.map { Self.division(tensor, $0, configuration) } ?? .whole
      portions[division, default: Portion(example: tensor.name)].bytes += tensor.bytes
    }
  }

  private static func division(
    _ tensor: ShardPlan.Tensor, _ name: Step3TensorName, _ configuration: Step3Configuration
  ) -> Division {
    let row = configuration.family.model.row(of: name)
    let shape = tensor.shape.dimensions
    let axis: Int?
    switch row.module {
    case .tokenEmbedding, .lmHead, .predictionHead: return .words
    case .visionQKV, .visionQKVBias, .visionFC1: axis = 0
    case .visionOutput, .visionFC2: axis = name.suffix == .bias ? nil : 1
    default: axis = row.tensorParallelAxis
    }
    // Scales of whole rows or matrices have no extent along the axis, or only one: every slice needs them.
    let extent = axis.flatMap { $0 < shape.count && shape[$0] > 1 ? shape[$0] : nil }
    let unit = axis == shape.count - 1 ? tensor.elementType.block.elements : 1
    if row.expertAxis != nil, let count = shape.first, count == configuration.text.expertCount {
      return .experts(count: count, extent: extent, unit: unit)
    }
    guard let extent else { return .whole }
    if row.module == .key || row.module == .value, let layer = name.layer {
      return .keyValueHeads(
        heads: configuration.text.keyValueHeadCount(layer: layer), extent: extent, unit: unit)
    }
    return .slices(extent: extent, unit: unit)
  }

  /// The bytes that the fullest rank loads.
  ///
  /// - Throws: What cannot be divided, with the numbers.
  func bytes(_ layout: ServingLayout) throws(LayoutObstacle) -> Int {
    try requireHeads(layout.tensorParallel)
    var sum = 0
    for (division, portion) in portions { sum += try share(of: portion, division, layout) }
    return sum
  }

  private func requireHeads(_ ranks: Int) throws(LayoutObstacle) {
    func require(_ heads: Int, _ what: String) throws(LayoutObstacle) {
      guard heads % ranks == 0 else {
        throw LayoutObstacle(reason: "\(heads) heads\(what) cannot be divided between \(ranks) ranks")
      }
    }
    try require(text.headCount, "")
    if let sliding = text.sliding { try require(sliding.headCount, " of sliding layers") }
    if let visionHeads { try require(visionHeads, " of the vision tower") }
    guard dividesKeyValueHeads else { return }
    for heads in [text.keyValueHeadCount, text.sliding?.keyValueHeadCount ?? text.keyValueHeadCount] {
      guard heads % ranks == 0 || ranks % heads == 0 else {
        throw LayoutObstacle(
          reason: "\(ranks) ranks and \(heads) key and value heads: neither divides the other")
      }
    }
  }

  private func share(
    of portion: Portion, _ division: Division, _ layout: ServingLayout
  ) throws(LayoutObstacle) -> Int {
    func slice(_ extent: Int, _ unit: Int, _ pieces: Int) throws(LayoutObstacle) -> Int {
      guard pieces > 1 else { return portion.bytes }
      guard extent % pieces == 0, extent / pieces % unit == 0 else {
        let blocks = unit > 1 ? " in whole blocks of \(unit)" : ""
        throw LayoutObstacle(
          reason: "\(extent) of \(portion.example.printable) cannot be divided by \(pieces)\(blocks)")
      }
      return portion.bytes / pieces
    }
    switch division {
    case .whole: return portion.bytes
    case .words: return (portion.bytes + layout.tensorParallel - 1) / layout.tensorParallel
    case .slices(let extent, let unit): return try slice(extent, unit, layout.tensorParallel)
    case .keyValueHeads(let heads, let extent, let unit):
      return try slice(extent, unit, min(heads, layout.tensorParallel))
    case .experts(let count, let extent, let unit):
      guard layout.expertParallel else {
        return try extent.map { extent throws(LayoutObstacle) in try slice(extent, unit, layout.cards) }
          ?? portion.bytes
      }
      guard count >= layout.cards else {
        throw LayoutObstacle(reason: "there are more ranks than the \(count) experts")
      }
      // If they do not divide evenly, some ranks have one more.
      return portion.bytes / count * ((count + layout.cards - 1) / layout.cards)
    }
  }
}
