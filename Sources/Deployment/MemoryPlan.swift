/// Whether a model fits on cards, rank by rank, and on how many it would.
public struct MemoryPlan: Hashable, Sendable, Encodable {
  /// What the fullest rank of a side holds.
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

    /// Whole bytes; beyond what a number holds, more than any card is taken to have.
    static func whole(_ bytes: Double) -> Int { Int(min(bytes.rounded(.up), 9.2e18)) }
  }

  /// Cards that do the same.
  public struct Side: Hashable, Sendable, Encodable {
    /// What they do.
    public let side: ServedSide
    /// How many there are.
    public let cards: Int
    /// The machines that they fill, the last perhaps in part.
    public let machines: Int
    /// How the model is spread over them; `nil` for a side of a partition.
    public let layout: ServingLayout?
    /// How a partition's parts divide every expert and the experts; `nil` for other sides.
    public let cut: Cut?
    /// The cards that work on the same sequences.
    public let ranks: Int
    /// How often there are so many, with sequences of their own.
    public let replicas: Int
    /// The fullest rank.
    public let rank: Rank
    /// Whether that fits on a card.
    public let fits: Bool
  }

  /// How the FFN side of a partition is cut: `--ffn-ep` times `--ffn-tp`.
  public struct Cut: Hashable, Sendable, Encodable {
    /// Between how many parts whole experts are divided.
    public let expertParallel: Int
    /// Into how many slices each expert is cut.
    public let tensorParallel: Int
  }

  /// A number of cards, and what they do.
  public struct Spread: Hashable, Sendable, Encodable {
    /// All cards that decoding needs; those of the vision side are prefill's, and not counted.
    public let cards: Int
    /// Their machines.
    public let machines: Int
    /// What they do.
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

  /// Whether it fits on the cards that there are; without a number of them, whether it fits at all.
  public let fits: Bool
  /// The model.
  public let model: String
  /// Tokens of each sequence.
  public let context: Int
  /// Sequences at the same time.
  public let batch: Int
  /// How the cache is stored.
  public let cacheType: Precision
  /// Bytes of the cache of one sequence, all heads.
  public let cacheBytesPerSequence: Int
  /// Bytes of a card.
  public let cardBytes: Int
  /// Those that may be used.
  public let usableBytes: Int
  /// The cards that there are, as they would be used; where nothing can be spread over so many, `nil`.
  public let asked: Spread?
  /// The fewest cards; `nil` where no number of them is enough.
  public let smallest: Spread?
  /// Why it does not fit, or not as asked.
  public let obstacle: String?
}
