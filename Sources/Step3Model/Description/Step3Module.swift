/// One part of a model of the family: what a tensor's name says apart from its layer and its suffix.
///
/// The cases are what a module does, by which forward passes ask for it; what it is called, how large it is and where it
/// lives says the ``ModelDescription`` of a family, which need not have all of them.
public enum Step3Module: Hashable, Sendable, CaseIterable {
  case tokenEmbedding, outputNorm, lmHead
  /// By how much each frequency of the rotary embedding is divided. Published checkpoints have none: it is computed of
  /// the configuration.
  case rotaryFactors
  case inputNorm, query, queryNorm, queryUp, key, value, attentionOutput, postAttentionNorm
  case denseGate, denseUp, denseDown
  case router, expertGate, expertUp, expertDown, sharedGate, sharedUp, sharedDown
  /// What the attention of later members has: norms of each head's queries and keys, a gate for each head, and an indexer
  /// that chooses the regions which full layers see.
  case queryHeadNorm, keyHeadNorm, headGate
  case indexerQuery, indexerQueryNorm, indexerKey, indexerKeyNorm, indexerCompression, indexerWeights,
    softmaxScale
  /// What is added to the router's probabilities for the choice alone.
  case routerBias
  /// What layers that predict further tokens have beside those of a layer.
  case predictionEmbeddingNorm, predictionHiddenNorm, predictionProjection, predictionHeadNorm, predictionHead
  case classEmbedding, patchEmbedding, positionEmbedding
  case visionInputNorm, visionNorm1, visionNorm2, visionQKV, visionQKVBias, visionOutput, visionFC1, visionFC2
  case layerScale1, layerScale2
  case downsampler1, downsampler2, projector
}
