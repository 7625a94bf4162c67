internal import Step3Runtime

/// Collects the inputs of linear layers while a calibration text runs through a model, and processes them when no more
/// can come.
///
/// Rows come through ``ForwardObserver/note(entering:matrix:_:)``, in token order and in portions that depend only
/// on the text and the model, so that sums do not depend on threads or memory.
protocol LayerVisitor: ForwardObserver {
  /// All input rows of some weights of a layer have been seen.
  func finished(_ part: LayerPart, layer: Int) throws
  /// The whole layer is done.
  func finished(layer: Int) throws
}

/// The groups of a layer's weights that are complete at the same time.
enum LayerPart: Hashable, Sendable {
  /// Attention, and the router.
  case attention
  /// The dense network, or the shared expert.
  case common
  /// A routed expert.
  case expert(Int)
}
