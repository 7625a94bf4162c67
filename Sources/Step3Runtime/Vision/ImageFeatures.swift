internal import Checkpoint
internal import StoredWeights
internal import Step3Model
internal import TensorFormats

/// The vectors of a prompt's pictures, ready to replace token embeddings.
public struct ImageFeatures: Sendable {
  /// `[features, hidden]`, in the prompt's order: the crops of each picture, then the whole of it.
  public let values: Activations
  /// How many of them each picture has.
  public let counts: [Int]

  init(_ values: Activations, counts: [Int]) {
    precondition(counts.reduce(0, +) == values.rows)
    self.values = values
    self.counts = counts
  }
}

extension TextModel {
  /// The embedded tokens, with each image token replaced by a vector of its picture: `[tokens,
  /// hidden]`.
  ///
  /// Every token with the image token's id is replaced. Generated tokens are not: embed them with ``embed(_:)``.
  ///
  /// - Throws: `.invalidRequest` if there are more or fewer of these tokens than vectors, and as ``embed(_:)``.
  public func embed(_ batch: TokenBatch, _ features: ImageFeatures) throws -> Activations {
    guard let token = weights.configuration?.vision?.imageTokenID else {
      throw CheckpointError(
        .unsupported, "is only the language model; it cannot see pictures", path: weights.checkpoint.path)
    }
    let places = batch.tokens.indices.filter { batch.tokens[$0] == token }
    guard places.count == features.values.rows else {
      throw CheckpointError(
        .invalidRequest,
        "the prompt has \(places.count) tokens that stand for a picture's vectors (number \(token)), but its "
          + "\(features.counts.count) pictures have \(features.values.rows) (\(features.countsText))",
        remedy: "write one such token for each vector, the crops of a picture before the whole of it")
    }
    guard features.values.columns == text.hiddenSize else {
      throw CheckpointError(
        .invalidRequest,
        "the pictures' vectors have \(features.values.columns) elements, the model's \(text.hiddenSize)")
    }
    let result = try embed(batch)
    for (row, place) in places.enumerated() {
      let source = features.values[row]
      result.update(place) { span in for index in source.indices { span[index] = source[index] } }
    }
    return result
  }
}

extension ImageFeatures {
  fileprivate var countsText: String {
    let shown = counts.prefix(8).map(String.init).joined(separator: " + ")
    return counts.count > 8 ? shown + " + …" : shown
  }
}
