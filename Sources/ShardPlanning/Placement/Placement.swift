internal import Checkpoint
internal import StoredWeights
internal import TensorFormats

/// The parts, and which of them holds which tensor.
struct Placement {
  /// The parts, empty.
  let parts: [ShardPlan.Part]
  /// Every tensor, once for each copy stored.
  let tensors: [PlacedTensor]
  /// What is stored more than once, and why.
  let replicated: [ShardPlan.Replication]

  /// - Parameter headCount: The attention heads, which tensor parallelism divides; 0 for an unknown model.
  init(
    _ sources: [SourceTensor], partition: ShardPlan.Partition, headCount: Int
  ) throws(CheckpointError) {
    switch partition {
    case .none:
      parts = [
        ShardPlan.Part(
          directory: "", role: .model, rank: 0, ranks: 1, expertParallel: .only, tensorParallel: .only,
          files: [], documents: [], copies: [])
      ]
      tensors = sources.map { PlacedTensor($0, part: 0) }
      replicated = []
    case .afd(let layout):
      self = try Placement(sources, layout, headCount: headCount)
    }
  }
}

// MARK: - Attention-FFN disaggregation

extension Placement {
  /// Source: Step-3 system report (arXiv 2507.19427), section 7 and figure 6.
  private init(
    _ sources: [SourceTensor], _ layout: ShardPlan.AFDLayout, headCount: Int
  ) throws(CheckpointError) {
    try Self.check(layout, headCount: headCount)
    var parts: [ShardPlan.Part] = []
    for rank in 0..<layout.attentionTP {
      parts.append(Self.part(.attention, tp: PartIdentity.Position(rank: rank, ranks: layout.attentionTP)))
    }
    let attention = 0..<parts.count
    for expert in 0..<layout.ffnEP {
      for tensor in 0..<layout.ffnTP {
        parts.append(
          Self.part(
            .ffn, ep: PartIdentity.Position(rank: expert, ranks: layout.ffnEP),
            tp: PartIdentity.Position(rank: tensor, ranks: layout.ffnTP)))
      }
    }
    let ffn = attention.upperBound..<parts.count
    let vision = parts.count
    if sources.contains(where: { $0.side == .vision }) { parts.append(Self.part(.vision)) }

    let choices = FFNChoices(sources)
    var tensors: [PlacedTensor] = []
    var replicated: [ShardPlan.Replication] = []
    for source in sources {
      let placed: [PlacedTensor]
      switch source.side {
      case .vision: placed = [PlacedTensor(source, part: vision)]
      case .model, .attention: placed = try Self.slices(source, over: attention, .attentionTP)
      case .ffn where source.isExpertStack: placed = try Self.experts(source, over: ffn, layout, choices)
      case .ffn:
        // The shared expert and the dense layers serve every token: all FFN ranks share them, each a slice.
        do throws(CheckpointError) {
          placed = try Self.slices(source, over: ffn, .ffnRanks)
        } catch {
          var refusal = error
          refusal.remedy = choices.remedy(instead: layout)
          throw refusal
        }
      }
      let tensor = source.stored.codes.name
      // Weights stored as one tensor stay together.
      if placed.count > 1, placed.allSatisfy(\.isWhole), replicated.last?.tensor != tensor {
        replicated.append(
          ShardPlan.Replication(
            tensor: tensor, parts: placed.map { parts[$0.part].directory }, reason: Self.reason(for: source)))
      }
      tensors += placed
    }
    self.parts = parts
    self.tensors = tensors
    self.replicated = replicated.sorted { $0.tensor < $1.tensor }
  }

  private static func check(_ layout: ShardPlan.AFDLayout, headCount: Int) throws(CheckpointError) {
    for (option, count) in [
      ("--ffn-ep", layout.ffnEP), ("--ffn-tp", layout.ffnTP), ("--attention-tp", layout.attentionTP),
    ] where !(1...PartIdentity.mostRanks).contains(count) {
      throw CheckpointError(
        .invalidRequest, "\(option) is \(count); it must be from 1 to \(PartIdentity.mostRanks)")
    }
    guard layout.ffnRanks <= PartIdentity.mostRanks else {
      throw CheckpointError(
        .invalidRequest, "--ffn-ep times --ffn-tp is \(layout.ffnRanks)",
        remedy: "there can be at most \(PartIdentity.mostRanks) FFN ranks")
    }
    guard headCount % layout.attentionTP == 0 else {
      let choices = Cut.divisors(upTo: headCount) { headCount % $0 == 0 }
      throw CheckpointError(
        .invalidRequest,
        "\(headCount) attention heads cannot be divided evenly between \(layout.attentionTP) ranks",
        remedy: "--attention-tp \(Cut.list(choices)) would fit")
    }
  }

  private static func part(
    _ role: PartRole, ep: PartIdentity.Position = .only, tp: PartIdentity.Position = .only
  ) -> ShardPlan.Part {
    // Which side the router is on is not part of a name.
    let identity = PartIdentity(role, expertParallel: ep, tensorParallel: tp, routesInFFN: false)
    return ShardPlan.Part(
      directory: identity.standardName, role: role, rank: identity.position.rank,
      ranks: identity.position.ranks, expertParallel: ep, tensorParallel: tp, files: [], documents: [],
      copies: [])
  }

  private static func reason(for source: SourceTensor) -> String {
    switch source.role {
    case .router: "every rank chooses among all experts"
    case .norm: "norms act on the whole residual stream"
    case .attention: "the low-rank query and the one key and value head serve all heads"
    default: "every rank needs all of it"
    }
  }
}

// MARK: - Cutting

extension Placement {
  /// Whole experts for each instance, divided as evenly as possible (the first instances take one more), and within
  /// an instance an equal slice of the intermediate dimension for each rank.
  private static func experts(
    _ source: SourceTensor, over parts: Range<Int>, _ layout: ShardPlan.AFDLayout, _ choices: FFNChoices
  ) throws(CheckpointError) -> [PlacedTensor] {
    let experts = source.shape.dimensions.first ?? 0
    guard source.shape.rank == 3, experts >= layout.ffnEP else {
      throw CheckpointError(
        .invalidRequest,
        "\(experts) experts (shape \(source.shape)) cannot be divided between \(layout.ffnEP) instances",
        tensor: source.name, remedy: choices.remedy(instead: layout))
    }
    guard let axis = source.tensorParallelAxis, source.shape.dimensions[axis] % layout.ffnTP == 0
    else {
      throw CheckpointError(
        .invalidRequest,
        "the experts' intermediate dimension in \(source.shape) cannot be divided evenly between "
          + "\(layout.ffnTP) ranks",
        tensor: source.name, remedy: choices.remedy(instead: layout))
    }
    let length = source.shape.dimensions[axis] / layout.ffnTP
    let (share, rest) = experts.quotientAndRemainder(dividingBy: layout.ffnEP)
    return parts.map { part in
      let (instance, rank) = (part - parts.lowerBound).quotientAndRemainder(dividingBy: layout.ffnTP)
      var placed = PlacedTensor(source, part: part)
      let first = instance * share + min(instance, rest)
      placed.box = placed.box.narrowed(0, to: first..<first + share + (instance < rest ? 1 : 0))
      if layout.ffnTP > 1 {
        placed.box = placed.box.narrowed(axis, to: rank * length..<(rank + 1) * length)
        placed.cut = Cut(axis: axis, option: .ffnTP)
      }
      return placed
    }
  }

  /// An equal slice for each part, along the axis that tensor parallelism cuts; all of it if there is none.
  private static func slices(
    _ source: SourceTensor, over parts: Range<Int>, _ option: Cut.Option
  ) throws(CheckpointError) -> [PlacedTensor] {
    guard parts.count > 1, let axis = source.tensorParallelAxis, axis < source.shape.rank else {
      return parts.map { PlacedTensor(source, part: $0) }
    }
    let length = source.shape.dimensions[axis]
    let cut = Cut(axis: axis, option: option)
    guard length % parts.count == 0 else {
      throw CheckpointError(
        .invalidRequest,
        "dimension \(axis) of \(source.shape) cannot be divided evenly between \(parts.count) ranks",
        tensor: source.name, remedy: cut.choices(length: length, unit: 1))
    }
    let share = length / parts.count
    return parts.map { part in
      var placed = PlacedTensor(source, part: part)
      let first = (part - parts.lowerBound) * share
      placed.box = placed.box.narrowed(axis, to: first..<first + share)
      placed.cut = cut
      return placed
    }
  }
}
