internal import Checkpoint
public import StoredWeights
public import Step3Model
internal import TensorFormats

/// The half of each layer after attention: here, or on other machines.
public protocol FeedForward: Sendable {
  /// The output of the layer's feed-forward network for its (normalised) input.
  ///
  /// - Parameters:
  ///   - layer: The layer's number, from 0.
  ///   - input: `[tokens, hidden]`.
  ///   - routing: The experts of each token, in MoE layers; `nil` in dense layers, and where the router's weights are
  ///     on the other side.
  /// - Returns: `[tokens, hidden]`.
  func output(layer: Int, _ input: Activations, _ routing: Routing?) throws -> Activations
}

/// A feed-forward network whose weights are local: all of them, or a rank's share. For a share it computes that share's
/// partial sum; the sum over all ranks is the whole.
///
/// SwiGLU: `down(silu(gate · x) * (up · x))`, dense, for the shared expert and for each routed expert, with both
/// factors clamped to the layer's configured limits. An expert's weights are read only if a token is routed to it.
public struct LocalFeedForward: FeedForward {
  private let weights: ModelWeights
  private let text: Step3Configuration.Text
  private let products: Products
  private let observer: (any ForwardObserver)?

  /// Prepares the network of a checkpoint, or of the share that a part of a partition set holds.
  public init(
    _ weights: ModelWeights, _ text: Step3Configuration.Text, _ products: Products,
    observer: (any ForwardObserver)? = nil
  ) {
    self.weights = weights
    self.text = text
    self.products = products
    self.observer = observer
  }

  public func output(layer: Int, _ input: Activations, _ routing: Routing?) throws -> Activations {
    guard text.isMoE(layer: layer) else {
      return try common(layer: layer, input) ?? Activations(rows: input.rows, columns: text.hiddenSize)
    }
    let routing =
      try routing
      ?? Routing(
        of: input, layer: layer, weights, text, products, observer: observer)
    let result = Activations(rows: input.rows, columns: text.hiddenSize)
    // All experts that some token is routed to, in a fixed order, whoever holds them.
    for expert in Set(routing.experts).sorted() {
      let (tokens, factors) = routing.tokens(of: Int(expert))
      guard (0..<text.expertCount).contains(Int(expert)) else { continue }
      guard let output = try routed(expert: Int(expert), layer: layer, input.gather(tokens)) else { continue }
      result.scatterAdd(output, to: tokens, weights: factors)
    }
    if let shared = try common(layer: layer, input) { result.add(shared) }
    return result
  }

  /// The output of the network that all tokens go through: a dense layer's only one, or the shared expert.
  ///
  /// - Returns: `nil` if nothing of it is held here.
  package func common(layer: Int, _ input: Activations) throws -> Activations? {
    try swiGLU(text.isMoE(layer: layer) ? .shared(layer) : .dense(layer), matrix: nil, input)
  }

  /// The output of a routed expert for its tokens, not yet multiplied by their routing weights.
  ///
  /// - Returns: `nil` if nothing of it is held here.
  package func routed(expert: Int, layer: Int, _ input: Activations) throws -> Activations? {
    try swiGLU(.routed(layer), matrix: expert, input)
  }

  /// - Returns: `nil` if nothing of the network is held here.
  private func swiGLU(
    _ triple: WeightTriple, matrix: Int?, _ input: Activations
  ) throws -> Activations? {
    let (inner, hidden) = (triple.inner(text), text.hiddenSize)
    func shape(_ rows: Int, _ columns: Int) -> [Int] {
      (matrix == nil ? [] : [text.expertCount]) + [rows, columns]
    }
    guard
      let gate = try weights.heldMatrix(triple.gate, shape(inner, hidden), matrix: matrix ?? 0),
      let up = try weights.heldMatrix(triple.up, shape(inner, hidden), matrix: matrix ?? 0),
      let down = try weights.heldMatrix(triple.down, shape(hidden, inner), matrix: matrix ?? 0)
    else { return nil }
    guard gate.rows == up.rows, gate.rows == down.columns else {
      throw CheckpointError(
        .malformed,
        "the part holds \(gate.rows) rows of it, \(up.rows) of \(weights.spelled(triple.up)) and \(down.columns) "
          + "columns of \(weights.spelled(triple.down))", path: weights.checkpoint.path,
        tensor: weights.spelled(triple.gate))
    }
    try observer?.note(entering: [triple.gate, triple.up], matrix: matrix, input)
    let activated = try products.multiply(input, gate)
    let factors = try products.multiply(input, up)
    let limit = triple.limit(text).map { Float($0) }
    try Elementwise.swiGLU(activated, factors, limit: limit, threads: products.threads)
    try observer?.note(entering: [triple.down], matrix: matrix, activated)
    return try products.multiply(activated, down)
  }
}

/// The three matrices of a SwiGLU network.
private struct WeightTriple {
  let gate: Step3TensorName
  let up: Step3TensorName
  let down: Step3TensorName
  let inner: @Sendable (Step3Configuration.Text) -> Int
  let limit: @Sendable (Step3Configuration.Text) -> Double?

  static func dense(_ layer: Int) -> WeightTriple {
    WeightTriple(
      gate: Step3TensorName(.denseGate, layer: layer), up: Step3TensorName(.denseUp, layer: layer),
      down: Step3TensorName(.denseDown, layer: layer), inner: { $0.intermediateSize },
      limit: { $0.sharedExpertLimit(layer: layer) })
  }
  static func shared(_ layer: Int) -> WeightTriple {
    WeightTriple(
      gate: Step3TensorName(.sharedGate, layer: layer), up: Step3TensorName(.sharedUp, layer: layer),
      down: Step3TensorName(.sharedDown, layer: layer), inner: { $0.sharedExpertIntermediateSize },
      limit: { $0.sharedExpertLimit(layer: layer) })
  }
  static func routed(_ layer: Int) -> WeightTriple {
    WeightTriple(
      gate: Step3TensorName(.expertGate, layer: layer), up: Step3TensorName(.expertUp, layer: layer),
      down: Step3TensorName(.expertDown, layer: layer), inner: { $0.expertIntermediateSize },
      limit: { $0.expertLimit(layer: layer) })
  }
}
