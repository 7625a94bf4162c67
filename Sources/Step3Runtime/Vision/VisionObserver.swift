/// A place in the vision tower where values can be looked at.
public enum VisionStage: String, Hashable, Sendable, CaseIterable {
  /// Patches and class rows with their positions: `[tokens, width]`.
  case embedding
  /// The residual stream after a layer, class rows included: `[tokens, width]`.
  case layerOutput
  /// The residual stream after the last layer, without class rows: `[patches, width]`.
  case encoded
  /// What the language model takes: `[features, hidden]`.
  case features
}

/// Looks at values on their way through the vision tower. Rows are those of all pictures, one after the other.
public protocol VisionObserver: Sendable {
  /// Called after each stage with what came out; `layer` is `nil` for what is in no layer.
  func note(_ stage: VisionStage, layer: Int?, _ values: Activations)
}
