public import Step3Model
internal import Tokenization

/// Configurations of a few layers of Step-3, in full or reduced width.
public enum ModelSlice {
  /// The language model's first layer, which is dense, followed by layers with experts.
  ///
  /// The vocabulary is cut to 8,192, so that nearly all of the bytes are layers: 12.5 GB in BF16 for two layers.
  ///
  /// - Parameter widthDivisor: Divides every width and the vocabulary, which never gets below 512.
  public static func configuration(layers: Int = 2, experts: Int = 48, widthDivisor: Int = 1)
    -> Step3Configuration
  {
    // Even, because the rotary embedding turns pairs.
    func narrowed(_ width: Int) -> Int { max(2, width / widthDivisor / 2 * 2) }
    var model = Step3Configuration.published
    model.vision = nil
    model.padTokenID = SmallTokenizer.tokenizer.padTokenID
    model.text.layerCount = layers
    model.text.moeLayers = Array(1..<max(1, layers))
    model.text.expertCount = experts
    model.text.expertsPerToken = min(model.text.expertsPerToken, experts)
    model.text.vocabularySize = 8192
    guard widthDivisor > 1 else { return model }
    model.text.hiddenSize = narrowed(model.text.hiddenSize)
    model.text.intermediateSize = narrowed(model.text.intermediateSize)
    model.text.headDimension = narrowed(model.text.headDimension)
    model.text.sharedQueryDimension = narrowed(model.text.sharedQueryDimension)
    model.text.expertIntermediateSize = narrowed(model.text.expertIntermediateSize)
    model.text.sharedExpertIntermediateSize = narrowed(model.text.sharedExpertIntermediateSize)
    model.text.vocabularySize = max(512, model.text.vocabularySize / widthDivisor)
    return model
  }
}
