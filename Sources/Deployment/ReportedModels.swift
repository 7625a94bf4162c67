extension DecoderShape {
  /// The models that the Step-3 system report (arXiv 2507.19427, Tables 2, 3 and 6) compares Step-3 with, under its names.
  ///
  /// Dimensions: the models' published configurations. Pangu Pro's are from memory; that they reproduce the report's
  /// figures is the evidence for them. Llama 4's twelve full layers and MiniMax's ten keep their cache in BF16, and
  /// MiniMax's states are F32, as the report's figures require; everything else follows the deployment.
  public static let reported: [DecoderShape] = [
    DecoderShape(
      name: "DSv3", hiddenSize: 7168, vocabularySize: 129_280, attention: [.latentQuery(heads: 128)],
      feedForward: [
        FeedForwardLayers(count: 3, width: 18_432),
        FeedForwardLayers(count: 58, experts: 256, chosen: 8, width: 2048, shared: 2048),
      ]),
    DecoderShape(
      name: "Kimi K2", hiddenSize: 7168, vocabularySize: 163_840, attention: [.latentQuery(heads: 64)],
      feedForward: [
        FeedForwardLayers(count: 1, width: 18_432),
        FeedForwardLayers(count: 60, experts: 384, chosen: 8, width: 2048, shared: 2048),
      ]),
    DecoderShape(
      name: "Qwen3 MoE", hiddenSize: 4096, vocabularySize: 151_936,
      attention: [.heads(94, of: 128, queries: 64, groups: 4, hidden: 4096)],
      feedForward: [FeedForwardLayers(count: 94, experts: 128, chosen: 8, width: 1536)]),
    DecoderShape(
      name: "Qwen3 32B", hiddenSize: 5120, vocabularySize: 151_936,
      attention: [.heads(64, of: 128, queries: 64, groups: 8, hidden: 5120)],
      feedForward: [FeedForwardLayers(count: 64, width: 25_600)]),
    DecoderShape(
      name: "Llama 4 M", hiddenSize: 5120, vocabularySize: 202_048,
      attention: [
        .heads(12, of: 128, queries: 40, groups: 8, hidden: 5120, bytes: 2),
        .heads(36, of: 128, queries: 40, groups: 8, hidden: 5120, window: 8192, bytes: 1),
      ],
      feedForward: [
        FeedForwardLayers(count: 24, width: 16_384),
        FeedForwardLayers(count: 24, experts: 128, chosen: 1, width: 8192, shared: 8192),
      ]),
    DecoderShape(
      name: "MM M1", hiddenSize: 6144, vocabularySize: 200_064,
      attention: [
        .heads(10, of: 128, queries: 64, groups: 8, hidden: 6144, bytes: 2),
        // Queries, keys, values, a gate and the output, each as wide as all heads.
        AttentionLayers(
          count: 70, .recurrent(heads: 64, dimension: 128), projectionWeights: 5 * 6144 * 64 * 128,
          cacheElementBytes: 4),
      ],
      feedForward: [FeedForwardLayers(count: 80, experts: 32, chosen: 2, width: 9216)]),
    DecoderShape(
      name: "ERNIE 4.5", hiddenSize: 8192, vocabularySize: 103_424,
      attention: [.heads(54, of: 128, queries: 64, groups: 8, hidden: 8192)],
      feedForward: [
        FeedForwardLayers(count: 3, width: 28_672),
        FeedForwardLayers(count: 51, experts: 64, chosen: 8, width: 3584),
      ]),
    DecoderShape(
      name: "Pangu Pro", hiddenSize: 5120, vocabularySize: 153_376,
      attention: [.heads(48, of: 128, queries: 40, groups: 8, hidden: 5120)],
      feedForward: [FeedForwardLayers(count: 48, experts: 64, chosen: 8, width: 1344, shared: 4 * 1344)]),
  ]
}

extension AttentionLayers {
  /// Grouped heads with one matrix each for queries, keys, values and output.
  fileprivate static func heads(
    _ count: Int, of dimension: Int, queries: Int, groups: Int, hidden: Int, window: Int? = nil,
    bytes: Double? = nil
  ) -> AttentionLayers {
    AttentionLayers(
      count: count,
      .grouped(queryHeads: queries, keyValueHeads: groups, dimension: dimension, window: window),
      projectionWeights: 2 * hidden * dimension * (queries + groups), cacheElementBytes: bytes)
  }

  /// DeepSeek-V3's attention: queries of rank 1536, a latent of 512 with 64 rotary elements beside it, heads of 128 (and
  /// 64 rotary ones in queries).
  fileprivate static func latentQuery(heads: Int) -> AttentionLayers {
    let (hidden, queryRank, latent, rotary, head) = (7168, 1536, 512, 64, 128)
    let down = hidden * (queryRank + latent + rotary)
    let up = heads * (queryRank * (head + rotary) + latent * 2 * head)
    return AttentionLayers(
      count: 61, .latent(heads: heads, dimension: latent + rotary),
      projectionWeights: down + up + heads * head * hidden)
  }
}
