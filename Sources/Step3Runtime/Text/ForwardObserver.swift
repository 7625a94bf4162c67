public import Step3Model

/// A point in the forward pass where values can be observed.
public enum ForwardStage: String, Hashable, Sendable, CaseIterable {
  /// The embedded tokens, image features merged in.
  case embedding
  /// A layer's input after its norm.
  case attentionInput
  /// The low-rank query after its norm.
  case sharedQuery
  /// Queries and keys after the rotary embedding, and values.
  case query, key, value
  /// The outputs of the heads, concatenated.
  case heads
  /// Attention's contribution to the residual stream.
  case attentionOutput
  /// The feed-forward network's input after its norm.
  case feedForwardInput
  /// The router's logits.
  case routerLogits
  /// What the feed-forward network adds to the residual stream.
  case feedForwardOutput
  /// The residual stream after the layer.
  case layerOutput
  /// The residual stream after the last norm.
  case finalNorm
}

/// Observes values in the forward pass.
public protocol ForwardObserver: Sendable {
  /// Called after each stage with its output; `layer` is `nil` outside layers.
  func note(_ stage: ForwardStage, layer: Int?, _ values: Activations)
  /// Called with the experts that each token is routed to.
  func note(_ routing: Routing, layer: Int)
  /// Called before rows are multiplied by the weights of linear layers, once for all that share the same input.
  ///
  /// - Parameters:
  ///   - weights: The linear layers' weights.
  ///   - matrix: Which matrix of each, if they are stacks of experts; `nil` for single matrices.
  ///   - rows: `[tokens, columns of each weight]`; in experts, the tokens routed to it, in order.
  /// - Throws: An error ends the run.
  func note(entering weights: [Step3TensorName], matrix: Int?, _ rows: Activations) throws
}

extension ForwardObserver {
  /// Does nothing.
  public func note(_ stage: ForwardStage, layer: Int?, _ values: Activations) {}
  /// Does nothing.
  public func note(_ routing: Routing, layer: Int) {}
  /// Does nothing.
  public func note(entering weights: [Step3TensorName], matrix: Int?, _ rows: Activations) throws {}
}

extension ForwardObserver {
  /// Reports the rows that enter modules of a layer, none of which is a stack.
  ///
  /// - Throws: An error ends the run.
  func note(entering modules: [Step3Module], layer: Int, _ rows: Activations) throws {
    try note(entering: modules.map { Step3TensorName($0, layer: layer) }, matrix: nil, rows)
  }
}
