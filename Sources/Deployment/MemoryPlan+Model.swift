public import ShardPlanning
public import Step3Model
public import TensorFormats

extension MemoryPlan {
  /// Plans the memory for a whole model, distributed as serving engines do.
  ///
  /// Tries every number of cards from one up, and for each every size of tensor-parallel group within a machine, with
  /// whole or sliced experts; the first that fits is the smallest. Among several layouts for a number of cards, the one
  /// with the least on its fullest rank is chosen.
  ///
  /// - Throws: `.invalidRequest` if the requested tensor-parallel ranks cannot divide the model or the cards.
  public init(
    _ plan: ShardPlan, _ configuration: Step3Configuration, _ request: MemoryRequest
  ) throws(CheckpointError) {
    let search = LayoutSearch(plan, configuration, request)
    try search.check()
    let asked = request.cards.map { search.best($0) }
    let smallest = search.smallest()
    let spread = asked?.side.map { Spread([$0]) }
    self.init(
      configuration, request, CacheMemory(configuration, predicting: search.weights.predicts),
      // Fewer cards than available may be used, if all of them cannot be divided.
      fits: smallest.map { $0.cards <= request.cards ?? $0.cards } ?? false,
      asked: spread, smallest: smallest.map { Spread([$0]) },
      obstacle: asked.flatMap { $0.side == nil ? $0.obstacle : nil }
        ?? (smallest == nil ? search.reason : nil))
  }

  init(
    _ configuration: Step3Configuration, _ request: MemoryRequest, _ cache: CacheMemory, fits: Bool,
    asked: Spread?, smallest: Spread?, obstacle: String?
  ) {
    self.fits = fits
    model = configuration.family.name
    context = request.context
    batch = request.batch
    cacheType = request.cache
    cacheBytesPerSequence = Rank.whole(cache.bytes(context: request.context, stored: request.cache))
    cardBytes = request.cardBytes
    usableBytes = request.usableBytes
    self.asked = asked
    self.smallest = smallest
    self.obstacle = obstacle
  }
}

/// Layouts of a whole model over a number of cards.
private struct LayoutSearch {
  let weights: RankedWeights
  private let request: MemoryRequest
  private let cache: CacheMemory
  private let activations: Activations
  private let hasExperts: Bool

  init(_ plan: ShardPlan, _ configuration: Step3Configuration, _ request: MemoryRequest) {
    weights = RankedWeights(plan, configuration)
    self.request = request
    cache = CacheMemory(configuration, predicting: weights.predicts)
    activations = Activations(text: configuration.text)
    hasExperts = !configuration.text.moeLayers.isEmpty
  }

  /// Refuses options that no number of cards can satisfy.
  func check() throws(CheckpointError) {
    guard let ranks = request.tensorParallel else { return }
    do throws(LayoutObstacle) {
      _ = try weights.bytes(ServingLayout(tensorParallel: ranks, expertParallel: hasExperts))
    } catch {
      do throws(LayoutObstacle) {
        _ = try weights.bytes(ServingLayout(tensorParallel: ranks))
      } catch {
        let choices = (1...request.cardsPerMachine).filter { ranks in
          (try? weights.bytes(ServingLayout(tensorParallel: ranks))) != nil
        }.map(String.init)
        throw CheckpointError(
          .invalidRequest, "--tp \(ranks): \(error.reason)",
          remedy: choices.isEmpty ? nil : "--tp \(choices.joined(separator: ", ")) would work")
      }
    }
    if let cards = request.cards, cards % ranks != 0 {
      throw CheckpointError(
        .invalidRequest, "\(cards) cards cannot be divided into groups of \(ranks)",
        remedy: "give --gpus as a multiple of --tp")
    }
  }

  /// All layouts with exactly this many cards.
  private func layouts(_ cards: Int) -> [ServingLayout] {
    let groups = request.tensorParallel.map { [$0] } ?? Array(1...request.cardsPerMachine)
    let experts = hasExperts ? request.expertParallel.map { [$0] } ?? [false, true] : [false]
    return groups.filter { cards % $0 == 0 }.flatMap { ranks in
      experts.map {
        ServingLayout(tensorParallel: ranks, dataParallel: cards / ranks, expertParallel: $0)
      }
    }
  }

  private func rank(_ layout: ServingLayout) throws(LayoutObstacle) -> MemoryPlan.Rank {
    let sequences = (request.batch + layout.dataParallel - 1) / layout.dataParallel
    let bytes = try weights.bytes(layout)
    return MemoryPlan.Rank(
      weights: Double(bytes),
      cache: Double(sequences)
        * cache.bytes(
          context: request.context, stored: request.cache, tensorParallel: layout.tensorParallel),
      activations: activations.bytes(
        tokens: max(sequences, request.prefillTokens), sequences: sequences,
        tensorParallel: layout.tensorParallel, expertSlices: layout.expertParallel ? 1 : layout.cards),
      sequences: sequences)
  }

  /// The layout with the least on its fullest rank; `nil`, with the first reason, if there is none.
  func best(_ cards: Int) -> (side: MemoryPlan.Side?, obstacle: String?) {
    var best: (layout: ServingLayout, rank: MemoryPlan.Rank)?
    var obstacle: String?
    for layout in layouts(cards) {
      do throws(LayoutObstacle) {
        let rank = try rank(layout)
        if best.map({ rank.total < $0.rank.total }) ?? true { best = (layout, rank) }
      } catch {
        obstacle = obstacle ?? error.reason
      }
    }
    guard let best else {
      return (nil, obstacle ?? "\(cards) cards cannot be divided into groups of ranks")
    }
    let side = MemoryPlan.Side(
      side: .model, cards: cards, machines: request.machines(of: cards), layout: best.layout, cut: nil,
      ranks: best.layout.tensorParallel, replicas: best.layout.dataParallel, rank: best.rank,
      fits: best.rank.total <= request.usableBytes)
    return (side, nil)
  }

  /// The fewest cards on which it fits.
  func smallest() -> MemoryPlan.Side? {
    for cards in 1...MemoryRequest.mostCards {
      if let side = best(cards).side, side.fits { return side }
    }
    return nil
  }

  /// Why no number of cards is enough.
  var reason: String {
    "no rank becomes small enough on up to \(MemoryRequest.mostCards) cards: its share of the sequences, the weights that "
      + "every rank has, or the activations of \(request.prefillTokens) tokens are too much"
  }
}
