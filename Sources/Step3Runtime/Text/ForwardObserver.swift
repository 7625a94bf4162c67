public import Step3Model

/// A place in the forward pass where values can be looked at.
public enum ForwardStage: String, Hashable, Sendable, CaseIterable {
  /// The embedded tokens, image features merged in.
  case embedding
  /// A layer's input after its norm.
  case attentionInput
  /// The low-rank query after its norm.
  case sharedQuery
  /// Queries and keys after the rotary embedding, values as they are.
  case query, key, value
  /// What the heads make of the values, side by side.
  case heads
  /// What attention adds to the residual stream.
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

/// Looks at values on their way through the model.
public protocol ForwardObserver: Sendable {
  /// Called after each stage with what came out; `layer` is `nil` for what is in no layer.
  func note(_ stage: ForwardStage, layer: Int?, _ values: Activations)
  /// Called with the experts that each token chose.
  func note(_ routing: Routing, layer: Int)
  /// Called before rows are multiplied with the weights of linear layers, once for all that get the same rows.
  ///
  /// - Parameters:
  ///   - weights: The linear layers' weights.
  ///   - matrix: Which matrix of each, where they are stacks of experts; `nil` for single matrices.
  ///   - rows: `[tokens, columns of each weight]`; in experts the tokens that chose it, in their order.
  /// - Throws: What ends the run.
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
  /// Notes the rows that enter modules of a layer, none of which is a stack.
  ///
  /// - Throws: What ends the run.
  func note(entering modules: [Step3Module], layer: Int, _ rows: Activations) throws {
    try note(entering: modules.map { Step3TensorName($0, layer: layer) }, matrix: nil, rows)
  }
}
