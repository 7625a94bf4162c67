/// One part of a model of the family: what a tensor's name says apart from its layer and its suffix.
///
/// The cases are what a module does, by which forward passes ask for it; what it is called, how large it is and where it
/// lives says the ``ModelDescription`` of a family, which need not have all of them.
public enum Step3Module: Hashable, Sendable, CaseIterable {
  case tokenEmbedding, outputNorm, lmHead
  case inputNorm, query, queryNorm, queryUp, key, value, attentionOutput, postAttentionNorm
  case denseGate, denseUp, denseDown
  case router, expertGate, expertUp, expertDown, sharedGate, sharedUp, sharedDown
  case classEmbedding, patchEmbedding, positionEmbedding
  case visionNorm1, visionNorm2, visionQKV, visionOutput, visionFC1, visionFC2
  case downsampler1, downsampler2, projector
}
