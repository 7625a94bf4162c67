internal import ModelWeights
internal import Quantization
internal import Step3Model
internal import Step3Runtime
internal import TensorFormats

/// What a layer of the candidate makes of the very input that the reference's layer gets, through the same experts.
public struct LayerFigures: Encodable, Hashable, Sendable {
  /// The layer, from 0.
  public let layer: Int
  /// The error of what the layer adds to the residual stream, over that, all tokens taken together.
  public let relativeError: Double
  /// The same for the token with the largest.
  public let worstTokenError: Double
  /// What ``relativeError`` may be, given how the layer's weights are stored.
  public let limit: Double
  /// Whether the errors are in line.
  public var ok: Bool { relativeError <= limit && worstTokenError <= limit * LayerComparison.tokenSlack }

  private enum CodingKeys: String, CodingKey {
    case layer, relativeError, worstTokenError, limit, ok
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(layer, forKey: .layer)
    try container.encode(relativeError, forKey: .relativeError)
    try container.encode(worstTokenError, forKey: .worstTokenError)
    try container.encode(limit, forKey: .limit)
    try container.encode(ok, forKey: .ok)
  }
}

/// Compares two models layer by layer: both get the reference's hidden states, so that the errors of one layer do not
/// count against the next.
struct LayerComparison {
  let reference: TextModel
  let candidate: TextModel

  /// By how much the errors of the formats, added up, may be exceeded: the functions between two matrices amplify them.
  static let slack = 3.0
  /// How much further away a single token may be.
  static let tokenSlack = 3.0
  /// F32 sums in another order.
  private static let rounding = 2e-5

  /// Runs all layers of both.
  ///
  /// - Parameters:
  ///   - hidden: The reference's embedded tokens; changed in place.
  ///   - body: Receives the figures of each layer, and says whether to go on.
  func run(
    _ hidden: Activations, _ batch: TokenBatch, experts: RoutingRecorder,
    _ body: (LayerFigures) throws -> Bool
  ) throws {
    for layer in 0..<reference.text.layerCount {
      try Task.checkCancellation()
      let before = hidden.copy(rows: 0..<hidden.rows)
      let other = hidden.copy(rows: 0..<hidden.rows)
      try reference.run(layer: layer, hidden, batch)
      try candidate.run(layer: layer, other, batch, routing: experts[layer])
      let (all, worst) = Self.errors(before, hidden, other)
      let figures = LayerFigures(
        layer: layer, relativeError: all, worstTokenError: worst, limit: limit(layer: layer))
      guard try body(figures) else { return }
    }
  }

  /// The relative error of what was added to each token's stream.
  private static func errors(
    _ before: Activations, _ reference: Activations, _ candidate: Activations
  ) -> (all: Double, worst: Double) {
    var (errorSum, sum, worst) = (0.0, 0.0, 0.0)
    for row in 0..<before.rows {
      let (start, a, b) = (before[row], reference[row], candidate[row])
      var (rowError, rowSum) = (0.0, 0.0)
      for index in start.indices {
        let difference = Double(a[index]) - Double(b[index])
        let added = Double(a[index]) - Double(start[index])
        rowError += difference * difference
        rowSum += added * added
      }
      errorSum += rowError
      sum += rowSum
      if rowError > 0 { worst = max(worst, (rowError / rowSum).squareRoot()) }
    }
    return (errorSum == 0 ? 0 : (errorSum / sum).squareRoot(), worst)
  }

  /// What the formats of a layer's weights make, added up as independent errors.
  private func limit(layer: Int) -> Double {
    var squares = 0.0
    for module in Step3Module.allCases where module.scope == .textLayer {
      let name = Step3TensorName(module, layer: layer)
      guard let mine = candidate.weights[name]?.pieces.first, let its = reference.weights[name]?.pieces.first
      else { continue }
      let bound = ErrorBound(TensorStorage(mine.stored), of: TensorStorage(its.stored))
      let expected = bound.expected.map { max($0.gaussian, $0.heavyTailed) } ?? 0
      squares += expected * expected
    }
    return Self.rounding + Self.slack * squares.squareRoot()
  }
}
