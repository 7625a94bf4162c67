internal import StoredWeights
internal import Step3Model

/// Which experts each token goes through, and how much each counts.
public struct Routing: Hashable, Sendable {
  /// Experts per token.
  public let perToken: Int
  /// `[tokens, perToken]`, by falling probability.
  public let experts: [Int32]
  /// `[tokens, perToken]`, what each expert's output is multiplied with.
  public let weights: [Float]
  /// By how much each token's last chosen expert's logit exceeds that of the best one left out; infinite where none is.
  public let margins: [Float]

  /// The number of tokens.
  public var tokenCount: Int { experts.count / max(1, perToken) }

  /// Makes a routing of what another process chose.
  ///
  /// - Precondition: `experts` and `weights` have `perToken` entries per token.
  public init(perToken: Int, experts: [Int32], weights: [Float], margins: [Float] = []) {
    precondition(experts.count == weights.count && perToken > 0 && experts.count % perToken == 0)
    self.perToken = perToken
    self.experts = experts
    self.weights = weights
    self.margins = margins
  }

  /// Chooses from the router's logits: softmax over all experts, the largest probabilities, not scaled to sum to 1
  /// unless the configuration says so. Of equal ones the lower number counts as larger.
  ///
  /// - Parameter logits: `[tokens, experts]`.
  init(_ logits: Activations, _ text: Step3Configuration.Text) {
    let count = min(text.expertsPerToken, logits.columns)
    var experts: [Int32] = []
    var weights: [Float] = []
    var margins: [Float] = []
    var probabilities = [Float](repeating: 0, count: logits.columns)
    for token in 0..<logits.rows {
      let row = logits[token]
      for index in row.indices { probabilities[index] = row[index] }
      do {
        var span = probabilities.mutableSpan
        Elementwise.softmax(&span, count: logits.columns)
      }
      let ranked = row.indices.sorted { row[$0] != row[$1] ? row[$0] > row[$1] : $0 < $1 }
      let chosen = ranked.prefix(count)
      let sum = text.normalizesExpertWeights ? chosen.reduce(Float(0)) { $0 + probabilities[$1] } : 1
      for expert in chosen {
        experts.append(Int32(expert))
        weights.append(probabilities[expert] / sum)
      }
      margins.append(
        count < ranked.count ? row[ranked[count - 1]] - row[ranked[count]] : .infinity)
    }
    self.init(perToken: count, experts: experts, weights: weights, margins: margins)
  }

  /// Chooses with a layer's router.
  ///
  /// - Parameter input: The normalised input of the feed-forward network, `[tokens, hidden]`.
  init(
    of input: Activations, layer: Int, _ weights: ModelWeights, _ text: Step3Configuration.Text,
    _ products: Products, observer: (any ForwardObserver)?
  ) throws {
    let name = Step3TensorName(.router, layer: layer)
    let router = try weights.matrix(name, [text.expertCount, text.hiddenSize])
    try observer?.note(entering: [name], matrix: nil, input)
    let logits = try products.multiply(input, router)
    observer?.note(.routerLogits, layer: layer, logits)
    self.init(logits, text)
    observer?.note(self, layer: layer)
  }

  /// The tokens that chose an expert, and the weight that each gives it.
  package func tokens(of expert: Int) -> (numbers: [Int], weights: [Float]) {
    var numbers: [Int] = []
    var chosen: [Float] = []
    for index in experts.indices where Int(experts[index]) == expert {
      numbers.append(index / perToken)
      chosen.append(weights[index])
    }
    return (numbers, chosen)
  }
}
