internal import Comparison
internal import StoredWeights
internal import Quantization
internal import Step3Model
internal import Step3Runtime
internal import TensorFormats

/// Compares two models stage by stage: embedding, pictures, each layer, output. Both get the reference's hidden states,
/// so that the errors of one stage do not count against the next.
struct StageComparison {
  let reference: ModelRunner
  let candidate: ModelRunner

  /// How far errors may exceed the sum of the formats' errors: the functions between matrices amplify them.
  static let slack = 3.0
  /// F32 sums in another order.
  private static let rounding = 2e-5

  /// The embedded tokens.
  func embedding(_ batch: TokenBatch) throws -> StageFigures {
    let expected = try reference.model.embed(batch)
    return try judged(limit: limit([Step3TensorName(.tokenEmbedding)])) { limit in
      figures(expected, try candidate.model.embed(batch), added: nil, limit: limit)
    }
  }

  /// The features that the vision sides compute from pictures.
  ///
  /// - Parameter names: The vision side's weights.
  func vision(_ pixels: PixelValues, _ names: [Step3TensorName]) throws -> StageFigures {
    func features(_ runner: ModelRunner) throws -> Activations {
      try VisionModel(runner.visionWeights, products: runner.model.products).features(of: pixels).values
    }
    let expected = try features(reference)
    return try judged(limit: limit(names)) { limit in
      figures(expected, try features(candidate), added: nil, limit: limit)
    }
  }

  /// Runs a layer of both.
  ///
  /// - Parameter hidden: The reference's residual stream before the layer; updated in place to the stream after it.
  func layer(
    _ layer: Int, _ hidden: Activations, _ batch: TokenBatch, experts: RoutingRecorder
  ) throws -> StageFigures {
    let before = hidden.copy(rows: 0..<hidden.rows)
    let other = hidden.copy(rows: 0..<hidden.rows)
    try reference.model.run(layer: layer, hidden, batch)
    return try judged(limit: limit(names(layer: layer))) { limit in
      try candidate.model.run(layer: layer, other, batch, routing: experts[layer])
      return figures(hidden, other, added: before, limit: limit)
    }
  }

  /// The logits of hidden states.
  ///
  /// - Parameter hidden: The residual stream after the last layer.
  func output(_ hidden: Activations, _ batch: TokenBatch) throws -> StageFigures {
    let limit = limit([Step3TensorName(.outputNorm), Step3TensorName(Self.outputModule(of: reference))])
    let mine = try reference.model.finalNorm(hidden)
    return try judged(limit: limit) { limit in
      let other = try candidate.model.finalNorm(hidden)
      var sums = Sums()
      for tokens in candidate.logitChunks(batch, sides: 2) {
        // The reference first: its failures are not the candidate's fault.
        let expected = try reference.model.logits(mine.copy(rows: tokens))
        sums.add(expected, try candidate.model.logits(other.copy(rows: tokens)), added: nil)
      }
      return sums.figures(limit: limit)
    }
  }

  /// The output projection.
  static func outputModule(of runner: ModelRunner) -> Step3Module {
    runner.model.weights[Step3TensorName(.lmHead)] == nil ? .tokenEmbedding : .lmHead
  }

  /// The weights of a layer in the order in which they are used.
  func names(layer: Int) -> [Step3TensorName] {
    reference.model.description.modules.filter { $0.scope == .textLayer }.map {
      Step3TensorName($0.module, layer: layer)
    }
  }
}

// MARK: - Errors

extension StageComparison {
  private struct Sums {
    var errors = 0.0
    var squares = 0.0
    var worst = 0.0

    /// Adds rows: a stage's output, minus its input.
    mutating func add(_ reference: Activations, _ candidate: Activations, added before: Activations?) {
      for row in 0..<reference.rows {
        let (a, b) = (reference[row], candidate[row])
        var (rowErrors, rowSquares) = (0.0, 0.0)
        for index in a.indices {
          let difference = Double(a[index]) - Double(b[index])
          let added = Double(a[index]) - (before.map { Double($0[row][index]) } ?? 0)
          rowErrors += difference * difference
          rowSquares += added * added
        }
        errors += rowErrors
        squares += rowSquares
        // NaN is the worst possible error.
        if !(rowErrors <= 0) {
          let error = (rowErrors / rowSquares).squareRoot()
          worst = error.isNaN ? .infinity : max(worst, error)
        }
      }
    }

    func figures(limit: Double) -> StageFigures {
      let all = errors == 0 ? 0 : (errors / squares).squareRoot()
      return StageFigures(
        relativeError: all.isNaN ? .infinity : all, worstTokenError: worst, limit: limit)
    }
  }

  private func figures(
    _ reference: Activations, _ candidate: Activations, added before: Activations?, limit: Double
  ) -> StageFigures {
    var sums = Sums()
    sums.add(reference, candidate, added: before)
    return sums.figures(limit: limit)
  }

  /// A candidate that produces NaN, or lacks a weight, has an infinite error.
  private func judged(
    limit: Double, _ body: (Double) throws -> StageFigures
  ) throws -> StageFigures {
    do {
      return try body(limit)
    } catch let error as CheckpointError where Bisection.canExplain(error) {
      return StageFigures(relativeError: .infinity, worstTokenError: .infinity, limit: limit)
    }
  }

  /// The formats' errors of some weights, summed as independent errors.
  private func limit(_ names: [Step3TensorName]) -> Double {
    var squares = 0.0
    for name in names {
      let isVision = reference.model.description.row(of: name).isVision
      let (mine, its) =
        isVision
        ? (candidate.visionWeights[name], reference.visionWeights[name])
        : (candidate.model.weights[name], reference.model.weights[name])
      guard let mine = mine?.pieces.first, let its = its?.pieces.first else { continue }
      let bound = ErrorBound(StoredPrecision(mine.stored), of: StoredPrecision(its.stored))
      let expected = bound.expected.map { max($0.gaussian, $0.heavyTailed) } ?? 0
      squares += expected * expected
    }
    return Self.rounding + Self.slack * squares.squareRoot()
  }
}
