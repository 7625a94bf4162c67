internal import Step3Runtime

/// Collects what enters linear layers while a calibration text goes through a model, and does something with it when no
/// more can come.
///
/// Rows come through ``ForwardObserver/note(entering:matrix:_:)``, in the order of the tokens and in portions that
/// follow from the text and the model alone, so that sums do not depend on threads or memory.
protocol LayerVisitor: ForwardObserver {
  /// All rows that enter some weights of a layer have come.
  func finished(_ part: LayerPart, layer: Int) throws
  /// All of a layer is over.
  func finished(layer: Int) throws
}

/// What of a layer's weights rows enter together.
enum LayerPart: Hashable, Sendable {
  /// Attention, and the router.
  case attention
  /// The dense network, or the shared expert.
  case common
  /// A routed expert.
  case expert(Int)
}
