internal import Checkpoint
internal import TensorFormats

/// Which parts there are, and which of them holds which tensor.
struct Placement {
  /// The parts, empty.
  let parts: [ShardPlan.Part]
  /// Every tensor, as often as it is stored.
  let tensors: [PlacedTensor]
  /// What is stored more than once, and why.
  let replicated: [ShardPlan.Replication]

  init(_ sources: [SourceTensor], partition: ShardPlan.Partition) throws(CheckpointError) {
    switch partition {
    case .none:
      parts = [Self.part("", .model, 0, of: 1)]
      tensors = sources.map { PlacedTensor($0, part: 0) }
      replicated = []
    case .afd(let layout):
      self = try Placement(sources, layout)
    }
  }

  private static func part(_ directory: String, _ role: ShardPlan.Part.Role, _ rank: Int, of ranks: Int)
    -> ShardPlan.Part
  {
    ShardPlan.Part(
      directory: directory, role: role, rank: rank, ranks: ranks, files: [], documents: [], copies: [])
  }
}

// MARK: - Attention-FFN disaggregation

extension Placement {
  /// Source: Step-3 system report (arXiv 2507.19427), section 7 and figure 6.
  private init(_ sources: [SourceTensor], _ layout: ShardPlan.AFDLayout) throws(CheckpointError) {
    guard layout.ffnEP >= 1 else {
      throw CheckpointError(
        .invalidRequest, "\(layout.ffnEP) FFN instances are asked for; there must be one at least")
    }
    var parts = [Self.part("attention", .attention, 0, of: 1)]
    let firstFFN = parts.count
    for rank in 0..<layout.ffnEP {
      let directory = layout.ffnEP == 1 ? "ffn" : "ffn-ep\(rank)"
      parts.append(Self.part(directory, .ffn, rank, of: layout.ffnEP))
    }
    let vision = parts.count
    if sources.contains(where: { $0.side == .vision }) {
      parts.append(Self.part("vision", .vision, 0, of: 1))
    }

    var tensors: [PlacedTensor] = []
    let ffnParts = firstFFN..<firstFFN + layout.ffnEP
    for source in sources {
      switch source.side {
      case .model, .attention: tensors.append(PlacedTensor(source, part: 0))
      case .vision: tensors.append(PlacedTensor(source, part: vision))
      case .ffn where source.isExpertStack: tensors += try Self.experts(source, over: ffnParts)
      case .ffn:
        // The shared expert and the dense layers serve every token: all instances share them, each a slice.
        tensors += try Self.slices(source, over: ffnParts)
      }
    }
    self.parts = parts
    self.tensors = tensors
    replicated = tensors.filter { $0.isWhole && $0.source.side == .ffn && ffnParts.count > 1 }
      .reduce(into: [String: [String]]()) {
        $0[$1.source.tensor.name, default: []].append(parts[$1.part].directory)
      }
      .map {
        ShardPlan.Replication(tensor: $0.key, parts: $0.value, reason: "every FFN instance needs all of it")
      }
      .sorted { $0.tensor < $1.tensor }
  }

  /// Whole experts for each instance: the outermost dimension, divided as evenly as it goes, the first instances
  /// taking one more.
  private static func experts(
    _ source: SourceTensor, over parts: Range<Int>
  ) throws(CheckpointError) -> [PlacedTensor] {
    let experts = source.tensor.shape.dimensions.first ?? 0
    guard source.tensor.shape.rank == 3, experts >= parts.count else {
      throw CheckpointError(
        .invalidRequest,
        "\(experts) experts (shape \(source.tensor.shape)) cannot be divided between \(parts.count) instances",
        tensor: source.tensor.name, remedy: "use --ffn-ep \(max(1, experts)) or less")
    }
    var start = 0
    return parts.map { part in
      let rank = part - parts.lowerBound
      let count = experts / parts.count + (rank < experts % parts.count ? 1 : 0)
      defer { start += count }
      var placed = PlacedTensor(source, part: part)
      placed.origin[0] = start
      placed.extent[0] = count
      return placed
    }
  }

  /// An equal slice for each instance, along the axis that tensor parallelism cuts.
  private static func slices(
    _ source: SourceTensor, over parts: Range<Int>
  ) throws(CheckpointError) -> [PlacedTensor] {
    // The router, when it lives here, chooses among all experts: each instance has all of it.
    guard parts.count > 1, let axis = source.tensorParallelAxis else {
      return parts.map { PlacedTensor(source, part: $0) }
    }
    let length = source.tensor.shape.dimensions[axis]
    guard length % parts.count == 0 else {
      let choices = (1...parts.count).filter { length % $0 == 0 }.map(String.init).joined(separator: ", ")
      throw CheckpointError(
        .invalidRequest,
        "dimension \(axis) of \(source.tensor.shape) cannot be divided evenly between \(parts.count) FFN instances",
        tensor: source.tensor.name, remedy: "--ffn-ep \(choices) would fit this tensor")
    }
    return parts.map { part in
      var placed = PlacedTensor(source, part: part)
      placed.extent[axis] = length / parts.count
      placed.origin[axis] = (part - parts.lowerBound) * placed.extent[axis]
      return placed
    }
  }
}
