public import Step3Runtime
internal import Synchronization

/// Records which experts each token is routed to, layer by layer.
public final class RoutingRecorder: ForwardObserver {
  private let routings = Mutex<[Int: Routing]>([:])

  /// Makes an empty recorder.
  public init() {}

  /// Keeps a layer's choices.
  public func note(_ routing: Routing, layer: Int) { routings.withLock { $0[layer] = routing } }

  /// The routing in a layer; `nil` for a dense one.
  public subscript(layer: Int) -> Routing? { routings.withLock { $0[layer] } }

  /// How often another model chose the same experts, in every layer where both did.
  func agreement(of candidate: RoutingRecorder) -> [ExpertAgreement] {
    let mine = routings.withLock { $0 }
    return mine.keys.sorted().compactMap { layer in
      guard let reference = mine[layer], let other = candidate[layer],
        other.experts.count == reference.experts.count
      else { return nil }
      return ExpertAgreement(
        layer: layer, reference: reference.experts, candidate: other.experts, perToken: reference.perToken)
    }
  }
}
