internal import StoredWeights
internal import Step3Model

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// Which experts each token is routed to, and with what weights.
public struct Routing: Hashable, Sendable {
  /// Experts per token.
  public let perToken: Int
  /// `[tokens, perToken]`, in descending order of probability.
  public let experts: [Int32]
  /// `[tokens, perToken]`, the factors for each expert's output.
  public let weights: [Float]
  /// By how much the logit of each token's last chosen expert exceeds that of the best one not chosen; infinite if all
  /// are chosen.
  public let margins: [Float]

  /// The number of tokens.
  public var tokenCount: Int { experts.count / max(1, perToken) }

  /// Makes a routing from another process's choice.
  ///
  /// - Precondition: `experts` and `weights` have `perToken` entries per token.
  public init(perToken: Int, experts: [Int32], weights: [Float], margins: [Float] = []) {
    precondition(experts.count == weights.count && perToken > 0 && experts.count % perToken == 0)
    self.perToken = perToken
    self.experts = experts
    self.weights = weights
    self.margins = margins
  }

  /// Chooses from the router's logits: softmax over all experts or the sigmoid of each, the largest probabilities (plus
  /// a bias, if any, used only for the choice), scaled as the configuration says: to sum to 1, times a factor, both or
  /// neither. Ties go to the lower index.
  ///
  /// - Parameters:
  ///   - logits: `[tokens, experts]`.
  ///   - bias: One for each expert.
  init(_ logits: Activations, _ text: Step3Configuration.Text, bias: [Float]? = nil) {
    guard text.routerActivation == .softmax else {
      self.init(sigmoid: logits, text, bias: bias ?? Array(repeating: 0, count: logits.columns))
      return
    }
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

  private init(sigmoid logits: Activations, _ text: Step3Configuration.Text, bias: [Float]) {
    let count = min(text.expertsPerToken, logits.columns)
    var experts: [Int32] = []
    var weights: [Float] = []
    var margins: [Float] = []
    for token in 0..<logits.rows {
      let row = logits[token]
      let probabilities = row.indices.map { 1 / (1 + exp(-row[$0])) }
      let ranks = zip(probabilities, bias).map { $0 + $1 }
      let ranked = ranks.indices.sorted { ranks[$0] != ranks[$1] ? ranks[$0] > ranks[$1] : $0 < $1 }
      let chosen = ranked.prefix(count)
      // The published code adds the same tiny amount, to avoid division by 0.
      let sum = text.normalizesExpertWeights ? chosen.reduce(Float(0)) { $0 + probabilities[$1] } + 1e-20 : 1
      for expert in chosen {
        experts.append(Int32(expert))
        weights.append(probabilities[expert] / sum * Float(text.routerScale))
      }
      margins.append(
        count < ranked.count ? ranks[ranked[count - 1]] - ranks[ranked[count]] : .infinity)
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
    let bias =
      text.hasRouterBias
      ? try weights.vector(Step3TensorName(.routerBias, layer: layer, suffix: .none), text.expertCount) : nil
    self.init(logits, text, bias: bias)
    observer?.note(self, layer: layer)
  }

  /// The tokens routed to an expert, with their weights.
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
