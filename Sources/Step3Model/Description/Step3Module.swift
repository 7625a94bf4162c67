/// A module of a model in the family: what a tensor's name says apart from its layer and its suffix.
///
/// The cases say what a module does, and forward passes look modules up by them; names, sizes and sides are in the
/// ``ModelDescription`` of a family, which need not have all modules.
public enum Step3Module: Hashable, Sendable, CaseIterable {
  case tokenEmbedding, outputNorm, lmHead
  /// The divisors of the rotary embedding's frequencies. Published checkpoints have none: they are computed from the
  /// configuration.
  case rotaryFactors
  case inputNorm, query, queryNorm, queryUp, key, value, attentionOutput, postAttentionNorm
  case denseGate, denseUp, denseDown
  case router, expertGate, expertUp, expertDown, sharedGate, sharedUp, sharedDown
  /// Attention modules of later members: norms of each head's queries and keys, a gate for each head, and an indexer
  /// that chooses the regions that full layers see.
  case queryHeadNorm, keyHeadNorm, headGate
  case indexerQuery, indexerQueryNorm, indexerKey, indexerKeyNorm, indexerCompression, indexerWeights,
    softmaxScale
  /// What is added to the router's probabilities, only for choosing experts.
  case routerBias
  /// The additional modules of layers that predict further tokens.
  case predictionEmbeddingNorm, predictionHiddenNorm, predictionProjection, predictionHeadNorm, predictionHead
  case classEmbedding, patchEmbedding, positionEmbedding
  case visionInputNorm, visionNorm1, visionNorm2, visionQKV, visionQKVBias, visionOutput, visionFC1, visionFC2
  case layerScale1, layerScale2
  case downsampler1, downsampler2, projector
}
