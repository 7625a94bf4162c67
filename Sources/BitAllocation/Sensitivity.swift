internal import Step3Model
internal import TensorFormats

/// How much the mean KL divergence of a model grows with the relative squared error of one weight's output, in nats.
///
/// A documented rule, not a measurement of the model at hand (`Manuals/calibration.md`, "A size budget"). An error of
/// the output projection is one of the logits. A layer's contribution is only a part of the residual stream, so an
/// error of a layer counts for less the more layers there are, and that of a projection by how directly it enters:
/// values and down projections fully, queries and keys through a softmax. Routed experts and the shared one divide a
/// feed-forward network by the number of experts per token.
struct Sensitivity {
  private let configuration: Step3Configuration?
  /// The elements of all weights, for unknown models.
  private let elements: Int
  /// Whether the embedding is also the output projection.
  private let hasTiedEmbedding: Bool

  /// What a relative error of 1 in the logits costs.
  static let head = 0.53
  /// Shares of that.
  static let embedding = 0.095

  init(_ configuration: Step3Configuration?, elements: Int, hasTiedEmbedding: Bool) {
    self.configuration = configuration
    self.elements = elements
    self.hasTiedEmbedding = hasTiedEmbedding
  }

  /// The share of a projection, in a model of one layer.
  private static func share(of module: Step3Module) -> Double? {
    switch module {
    case .query: 0.01
    case .queryUp: 0.022
    case .key: 0.06
    case .value: 0.145
    case .attentionOutput: 0.083
    case .headGate: 0.02
    case .denseGate, .expertGate, .sharedGate: 0.13
    case .denseUp, .expertUp, .sharedUp: 0.09
    case .denseDown, .expertDown, .sharedDown: 0.26
    default: nil
    }
  }

  /// The sensitivity of a weight.
  ///
  /// - Parameters:
  ///   - name: Its name in GGUF.
  ///   - count: Its elements.
  func weight(of name: String, elements count: Int) -> Double {
    let perElement = Self.head * Double(count) / Double(max(1, elements))
    guard let configuration, let tensor = configuration.family.model.tensor(gguf: name) else {
      return perElement
    }
    switch tensor.module {
    case .lmHead: return Self.head
    case .tokenEmbedding: return Self.head * (Self.embedding + (hasTiedEmbedding ? 1 : 0))
    default: break
    }
    guard let share = Self.share(of: tensor.module) else { return perElement }
    return Self.head * share * part(tensor.module) / Double(max(1, configuration.text.layerCount))
  }

  /// Which part of a feed-forward network a module is in.
  private func part(_ module: Step3Module) -> Double {
    let chosen = Double(configuration?.text.expertsPerToken ?? 0)
    return switch module {
    case .expertGate, .expertUp, .expertDown: chosen / (chosen + 1)
    case .sharedGate, .sharedUp, .sharedDown: 1 / (chosen + 1)
    default: 1
    }
  }
}
