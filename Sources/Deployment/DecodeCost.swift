/// The cost and speed of decoding on one kind of card that is always busy.
///
/// Source: Step-3 system report (arXiv 2507.19427), pages 5 and 6. Attention takes the longer of computing and reading
/// the cache, which overlap, plus the projections; batches are large enough to make reading weights negligible, and the
/// network is hidden.
public struct DecodeCost: Hashable, Sendable, Encodable {
  /// What bounds attention.
  public enum Bound: String, Hashable, Sendable, Encodable { case compute, memory }

  /// The card.
  public let accelerator: String
  /// Seconds of one card for one token's attention, projections included.
  public let attentionSeconds: Double
  /// Seconds of one card for one token's feed-forward networks.
  public let feedForwardSeconds: Double
  /// US dollars for a million tokens' attention.
  public let attentionCost: Double
  /// US dollars for a million tokens' feed-forward networks.
  public let feedForwardCost: Double
  /// What bounds attention.
  public let attentionBound: Bound
  /// US dollars for a million tokens if this kind of card does both.
  public let totalCost: Double
  /// Tokens per second of one card's attention.
  public let attentionTokensPerSecond: Double
  /// Tokens per second of one card's feed-forward networks.
  public let feedForwardTokensPerSecond: Double

  /// Calculates it.
  ///
  /// - Parameter precision: The arithmetic precision; cards without it use BF16.
  public init(_ work: DecodeWork, on card: Accelerator, precision: Precision) {
    let rate = card.operations(precision)
    let (computing, reading) = (work.attentionFLOPs / rate, work.cacheBytes / card.bandwidth)
    accelerator = card.name
    attentionBound = computing >= reading ? .compute : .memory
    attentionSeconds = max(computing, reading) + work.projectionFLOPs / rate
    feedForwardSeconds = work.feedForwardFLOPs / rate
    attentionCost = attentionSeconds * card.pricePerSecond * 1e6
    feedForwardCost = feedForwardSeconds * card.pricePerSecond * 1e6
    totalCost = attentionCost + feedForwardCost
    attentionTokensPerSecond = 1 / attentionSeconds
    feedForwardTokensPerSecond = 1 / feedForwardSeconds
  }
}

/// Attention on one kind of card, feed-forward networks on another or the same, in numbers that keep both busy.
public struct DisaggregatedCost: Hashable, Sendable, Encodable {
  /// The cost of attention on its cards.
  public let attention: DecodeCost
  /// The cost of the feed-forward networks on theirs.
  public let feedForward: DecodeCost
  /// US dollars for a million tokens.
  public let cost: Double
  /// Cards of attention for each card of feed-forward networks.
  public let ratio: Double
  /// Tokens per second, over all cards of both sides.
  public let tokensPerSecondPerCard: Double

  /// Combines two sides.
  public init(attention: DecodeCost, feedForward: DecodeCost) {
    self.attention = attention
    self.feedForward = feedForward
    cost = attention.attentionCost + feedForward.feedForwardCost
    ratio = attention.attentionSeconds / feedForward.feedForwardSeconds
    tokensPerSecondPerCard = 1 / (attention.attentionSeconds + feedForward.feedForwardSeconds)
  }

  /// The cheapest card for each side.
  ///
  /// - Returns: `nil` without cards.
  public init?(cheapestOf costs: [DecodeCost]) {
    guard let attention = costs.min(by: { $0.attentionCost < $1.attentionCost }),
      let feedForward = costs.min(by: { $0.feedForwardCost < $1.feedForwardCost })
    else { return nil }
    self.init(attention: attention, feedForward: feedForward)
  }
}
