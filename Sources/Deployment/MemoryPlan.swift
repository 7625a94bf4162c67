/// Whether a model fits on cards, rank by rank, and how many it takes.
public struct MemoryPlan: Hashable, Sendable, Encodable {
  /// The contents of the fullest rank of a side.
  public struct Rank: Hashable, Sendable, Encodable {
    /// Bytes of weights, as they are loaded.
    public let weights: Int
    /// Bytes of cache for its sequences.
    public let cache: Int
    /// Bytes of intermediate results, estimated.
    public let activations: Int
    /// All of it.
    public let total: Int
    /// Sequences of its own.
    public let sequences: Int

    init(weights: Double, cache: Double, activations: Double, sequences: Int) {
      self.weights = Self.whole(weights)
      self.cache = Self.whole(cache)
      self.activations = Self.whole(activations)
      total = Self.whole(weights + cache + activations)
      self.sequences = sequences
    }

    /// Whole bytes, saturated far above any card's memory.
    static func whole(_ bytes: Double) -> Int { Int(min(bytes.rounded(.up), 9.2e18)) }
  }

  /// Cards with the same role.
  public struct Side: Hashable, Sendable, Encodable {
    /// Their role.
    public let side: ServedSide
    /// The number of layers.
    public let cards: Int
    /// The machines that they occupy, the last perhaps partly.
    public let machines: Int
    /// How the model is distributed over them; `nil` for a side of a partition.
    public let layout: ServingLayout?
    /// How a partition's parts divide the experts and each expert; `nil` for other sides.
    public let cut: Cut?
    /// The cards that work on the same sequences.
    public let ranks: Int
    /// How many such groups there are, each with its own sequences.
    public let replicas: Int
    /// The fullest rank.
    public let rank: Rank
    /// Whether that fits on a card.
    public let fits: Bool
  }

  /// How the FFN side of a partition is cut: `--ffn-ep` times `--ffn-tp`.
  public struct Cut: Hashable, Sendable, Encodable {
    /// The number of parts that whole experts are divided between.
    public let expertParallel: Int
    /// The number of slices that each expert is cut into.
    public let tensorParallel: Int
  }

  /// A number of cards, and their roles.
  public struct Spread: Hashable, Sendable, Encodable {
    /// All cards for decoding; those of the vision side belong to prefill, and are not counted.
    public let cards: Int
    /// Their machines.
    public let machines: Int
    /// Their role.
    public let sides: [Side]
    /// Whether each rank fits on its card.
    public let fits: Bool

    init(_ sides: [Side]) {
      let decoding = sides.filter { $0.side != .vision }
      cards = decoding.reduce(0) { $0 + $1.cards }
      machines = decoding.reduce(0) { $0 + $1.machines }
      self.sides = sides
      fits = sides.allSatisfy(\.fits)
    }
  }

  /// Whether it fits on the available cards; without a given number, whether it fits at all.
  public let fits: Bool
  /// The model.
  public let model: String
  /// Tokens of each sequence.
  public let context: Int
  /// Concurrent sequences.
  public let batch: Int
  /// How the cache is stored.
  public let cacheType: Precision
  /// Bytes of the cache of one sequence, all heads.
  public let cacheBytesPerSequence: Int
  /// Bytes of a card.
  public let cardBytes: Int
  /// Those that may be used.
  public let usableBytes: Int
  /// The available cards as they would be used; `nil` if no layout has this many.
  public let asked: Spread?
  /// The fewest cards; `nil` if no number is enough.
  public let smallest: Spread?
  /// Why it does not fit, or not as requested.
  public let obstacle: String?
}
