internal import Checkpoint
public import ShardPlanning
public import Step3Model
public import TensorFormats

extension MemoryPlan {
  /// Plans the memory for the parts of a partition: each FFN part and each vision part on its own card, the
  /// attention parts once for every share of the sequences.
  ///
  /// The smallest spread takes the fewest FFN parts whose real plan fits, over all ways to cut experts, and as many
  /// attention instances as it takes.
  ///
  /// - Parameter replan: Plans the same conversion for another cut; throws where that cannot be.
  /// - Throws: `.invalidRequest` for a plan that is not partitioned.
  public init(
    partitioned plan: ShardPlan, _ configuration: Step3Configuration, _ request: MemoryRequest,
    replan: (ShardPlan.AFDLayout) throws(CheckpointError) -> ShardPlan
  ) throws(CheckpointError) {
    guard case .afd(let layout) = plan.request.partition else {
      throw CheckpointError(.invalidRequest, "the plan is not partitioned")
    }
    let sides = PartitionSides(plan, configuration, request)
    let feedForward = sides.feedForward(plan)
    let vision = sides.vision(plan)
    let smallestFFN = Self.smallestCut(sides, layout, configuration, request, replan)
    let smallestAttention = sides.smallestAttention()
    var smallest: Spread?
    if let smallestFFN, let smallestAttention {
      smallest = Spread([smallestAttention, smallestFFN] + vision)
    }
    // With a number of cards attention gets what the FFN parts leave; without, as many as it takes.
    let attention =
      request.cards.map {
        sides.attention(instances: max(1, ($0 - feedForward.cards) / sides.attentionRanks))
      }
      ?? smallestAttention ?? sides.attention(instances: request.batch)
    let asked = Spread([attention, feedForward] + vision)
    var obstacle: String?
    if let cards = request.cards, asked.cards > cards {
      obstacle = "this cut needs \(asked.cards) cards at least, and there are \(cards)"
    } else if smallestAttention == nil {
      obstacle = "an attention rank does not fit on a card even with a single sequence"
    } else if smallestFFN == nil {
      obstacle = "no cut of the FFN side into up to \(MemoryRequest.mostCards) parts fits"
    } else if !asked.fits {
      obstacle =
        "a rank of \(asked.sides.first { !$0.fits }?.side.rawValue ?? "a side") does not fit on a card"
    }
    self.init(
      configuration, request, sides.cache, fits: asked.fits && obstacle == nil, asked: asked,
      smallest: smallest, obstacle: obstacle)
  }

  /// The cut into the fewest FFN parts that fit.
  private static func smallestCut(
    _ sides: PartitionSides, _ layout: ShardPlan.AFDLayout, _ configuration: Step3Configuration,
    _ request: MemoryRequest, _ replan: (ShardPlan.AFDLayout) throws(CheckpointError) -> ShardPlan
  ) -> Side? {
    let text = configuration.text
    // Fewer than this cannot hold what there is, however it is cut.
    let fewest = max(1, Int((sides.feedForwardBytes / Double(max(1, request.usableBytes))).rounded(.up)))
    guard fewest <= MemoryRequest.mostCards else { return nil }
    for ranks in fewest...MemoryRequest.mostCards {
      for tensor in 1...ranks where ranks % tensor == 0 && tensor <= request.cardsPerMachine {
        // What the planner would refuse in any format is not asked.
        guard ranks / tensor <= max(1, text.expertCount), text.expertIntermediateSize % tensor == 0,
          text.moeLayers.count == text.layerCount || text.intermediateSize % ranks == 0,
          text.moeLayers.isEmpty || text.sharedExpertIntermediateSize % ranks == 0
        else { continue }
        var other = layout
        (other.ffnEP, other.ffnTP) = (ranks / tensor, tensor)
        guard let plan = try? replan(other) else { continue }
        let side = sides.feedForward(plan)
        if side.fits { return side }
      }
    }
    return nil
  }
}

/// The sides of a partition, each with what its fullest rank holds.
private struct PartitionSides {
  private let request: MemoryRequest
  private let activations: Activations
  private let attentionBytes: Double
  let cache: CacheMemory
  let attentionRanks: Int
  /// Bytes of all FFN parts.
  let feedForwardBytes: Double

  init(_ plan: ShardPlan, _ configuration: Step3Configuration, _ request: MemoryRequest) {
    self.request = request
    activations = Activations(text: configuration.text)
    let attention = plan.parts.filter { $0.role == .attention }
    attentionRanks = max(1, attention.count)
    attentionBytes = attention.map(\.weightBytes).max() ?? 0
    feedForwardBytes = plan.parts.filter { $0.role == .ffn }.reduce(0) { $0 + $1.weightBytes }
    let model = configuration.family.model
    let predicts = attention.first?.tensors.contains { tensor in
      let name =
        plan.request.format == .gguf
        ? model.tensor(gguf: tensor.name) : model.tensor(published: tensor.name)
      return name.map(configuration.predicts) ?? false
    }
    cache = CacheMemory(configuration, predicting: predicts ?? false)
  }

  /// This many instances, each with all attention parts, that divide the sequences.
  func attention(instances: Int) -> MemoryPlan.Side {
    let sequences = (request.batch + instances - 1) / instances
    let rank = MemoryPlan.Rank(
      weights: attentionBytes,
      cache: Double(sequences)
        * cache.bytes(context: request.context, stored: request.cache, tensorParallel: attentionRanks),
      activations: activations.bytes(
        tokens: sequences, sequences: sequences, tensorParallel: attentionRanks, expertSlices: 1,
        side: .attention), sequences: sequences)
    return side(.attention, rank, ranks: attentionRanks, replicas: instances)
  }

  /// The fewest instances that fit; `nil` if even a single sequence is too much.
  func smallestAttention() -> MemoryPlan.Side? {
    guard attention(instances: request.batch).fits else { return nil }
    // More instances have fewer sequences each, so fitting is monotonic.
    var (low, high) = (0, request.batch)
    while high - low > 1 {
      let middle = (low + high) / 2
      if attention(instances: middle).fits { high = middle } else { low = middle }
    }
    return attention(instances: high)
  }

  /// The FFN parts of a plan: every one computes for all sequences.
  func feedForward(_ plan: ShardPlan) -> MemoryPlan.Side {
    let parts = plan.parts.filter { $0.role == .ffn }
    let slices = max(1, parts.first?.tensorParallel.ranks ?? 1)
    let cut = MemoryPlan.Cut(
      expertParallel: max(1, parts.first?.expertParallel.ranks ?? 1), tensorParallel: slices)
    let rank = MemoryPlan.Rank(
      weights: parts.map(\.weightBytes).max() ?? 0, cache: 0,
      activations: activations.bytes(
        tokens: request.batch, sequences: request.batch, tensorParallel: max(1, parts.count),
        expertSlices: slices, side: .feedForward), sequences: request.batch)
    return side(.feedForward, rank, ranks: parts.count, replicas: 1, cut: cut)
  }

  /// The vision part, if there is one.
  func vision(_ plan: ShardPlan) -> [MemoryPlan.Side] {
    plan.parts.filter { $0.role == .vision }.map {
      side(
        .vision, .init(weights: $0.weightBytes, cache: 0, activations: 0, sequences: 0), ranks: 1, replicas: 1
      )
    }
  }

  private func side(
    _ side: ServedSide, _ rank: MemoryPlan.Rank, ranks: Int, replicas: Int, cut: MemoryPlan.Cut? = nil
  ) -> MemoryPlan.Side {
    let cards = ranks * replicas
    return MemoryPlan.Side(
      side: side, cards: cards, machines: request.machines(of: cards), layout: nil, cut: cut, ranks: ranks,
      replicas: replicas, rank: rank, fits: rank.total <= request.usableBytes)
  }
}

extension ShardPlan.Part {
  /// The bytes of its tensors, without file headers: the memory that a rank needs.
  fileprivate var weightBytes: Double { Double(tensors.reduce(0) { $0 + $1.bytes }) }
}
