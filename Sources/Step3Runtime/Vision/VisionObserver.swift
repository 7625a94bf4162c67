/// A point in the vision tower where values can be observed.
public enum VisionStage: String, Hashable, Sendable, CaseIterable {
  /// Patches and class rows with their positions: `[tokens, width]`.
  case embedding
  /// The residual stream after a layer, class rows included: `[tokens, width]`.
  case layerOutput
  /// The residual stream after the last layer, without class rows: `[patches, width]`.
  case encoded
  /// The input to the language model: `[features, hidden]`.
  case features
}

/// Observes values in the vision tower. Rows of all pictures follow each other.
public protocol VisionObserver: Sendable {
  /// Called after each stage with its output; `layer` is `nil` outside layers.
  func note(_ stage: VisionStage, layer: Int?, _ values: Activations)
}
