internal import Step3Model

/// The hardware and load that a model is to be served with: the question that a ``MemoryPlan`` answers.
public struct MemoryRequest: Hashable, Sendable {
  /// Bytes of one card's memory.
  public var cardBytes: Int
  /// The share of it that may be used; the rest is for the engine itself: graphs, workspaces, fragmentation.
  public var memoryShare: Double
  /// Tokens of each sequence, the last one included.
  public var context: Int
  /// Concurrent sequences.
  public var batch: Int
  /// How the cache is stored.
  public var cache: Precision
  /// Prompt tokens that an engine processes at once.
  public var prefillTokens: Int
  /// Cards per machine: tensor-parallel groups do not span machines.
  public var cardsPerMachine: Int
  /// The available cards; `nil` for as many as it takes.
  public var cards: Int?
  /// The tensor-parallel ranks of a group; `nil` for what fits best.
  public var tensorParallel: Int?
  /// Whether ranks have whole experts; `nil` for what fits best.
  public var expertParallel: Bool?

  /// vLLM's `--max-num-batched-tokens` on cards for serving.
  public static let usualPrefillTokens = 8192
  /// The most cards that a model is distributed over.
  public static let mostCards = 1024

  /// Describes one.
  public init(
    cardBytes: Int, memoryShare: Double = DeploymentRequest.usualMemoryShare, context: Int, batch: Int,
    cache: Precision = .bf16, prefillTokens: Int = usualPrefillTokens,
    cardsPerMachine: Int = DeploymentRequest.usualMachine, cards: Int? = nil, tensorParallel: Int? = nil,
    expertParallel: Bool? = nil
  ) {
    self.cardBytes = cardBytes
    self.memoryShare = memoryShare
    self.context = context
    self.batch = batch
    self.cache = cache
    self.prefillTokens = prefillTokens
    self.cardsPerMachine = cardsPerMachine
    self.cards = cards
    self.tensorParallel = tensorParallel
    self.expertParallel = expertParallel
  }

  /// Bytes of a card that may be used.
  public var usableBytes: Int { Int(min((Double(cardBytes) * memoryShare).rounded(.down), 9e18)) }

  /// The machines for this many cards.
  public func machines(of cards: Int) -> Int { (cards + cardsPerMachine - 1) / cardsPerMachine }
}

/// The estimated memory for intermediate results on one rank.
///
/// BF16 values for each token that is computed at once: four vectors of the residual stream's length (stream, its norm,
/// the branch's result, a copy of one), and the widest intermediate of a branch: queries and results of attention with
/// keys and values; gate, up and product of a dense network; the chosen experts' inputs, outputs, gates, ups and
/// products, with those of the shared one. And F32 logits for each sequence. Engines differ; what they need in addition
/// is covered by the share of memory left free.
struct Activations {
  let text: Step3Configuration.Text

  /// - Parameters:
  ///   - tokens: Computed at once.
  ///   - sequences: Whose next token is chosen.
  ///   - expertSlices: The number of slices that each expert is cut into.
  func bytes(
    tokens: Int, sequences: Int, tensorParallel: Int, expertSlices: Int, side: ServedSide = .model
  ) -> Double {
    let (hidden, ranks) = (Double(text.hiddenSize), Double(tensorParallel))
    let queries = Double(max(text.headCount, text.sliding?.headCount ?? 0) * text.headDimension)
    let keys = Double(2 * text.keyValueHeadCount * text.headDimension)
    let attention = 2 * queries / ranks + keys + Double(text.sharedQueryDimension)
    let dense = text.moeLayers.count < text.layerCount ? 3 * Double(text.intermediateSize) / ranks : 0
    var sparse = 0.0
    if !text.moeLayers.isEmpty {
      let chosen = Double(text.expertsPerToken)
      sparse =
        chosen * (2 * hidden + 3 * Double(text.expertIntermediateSize) / Double(expertSlices))
        + 3 * Double(text.sharedExpertIntermediateSize) / ranks
    }
    let widest: Double
    switch side {
    case .model: widest = max(attention, dense, sparse)
    case .attention: widest = attention
    case .feedForward: widest = max(dense, sparse)
    case .vision: return 0
    }
    let logits = side == .feedForward ? 0 : 4 * Double(sequences) * Double(text.vocabularySize) / ranks
    return 2 * Double(tokens) * (4 * hidden + widest) + logits
  }
}

/// The role of a group of cards.
public enum ServedSide: String, Hashable, Sendable, Encodable {
  /// All of it.
  case model
  case attention
  case feedForward = "ffn"
  case vision
}
