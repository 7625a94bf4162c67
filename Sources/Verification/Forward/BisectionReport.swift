/// The result of a search for the first fault.
public struct BisectionReport: Encodable, Sendable {
  /// How the embedded tokens differ; `nil` if nothing was run.
  public internal(set) var embedding: StageFigures?
  /// How the vectors of pictures differ; `nil` without pictures.
  public internal(set) var vision: StageFigures?
  /// Every layer's errors.
  public internal(set) var layers: [LayerFigures] = []
  /// How the logits for the same hidden states differ.
  public internal(set) var output: StageFigures?
  /// The layer of the first fault; `nil` if there is none, or it is outside the layers.
  public internal(set) var firstLayer: Int?
  /// What is wrong with the weights there, in the order in which they are used.
  public internal(set) var tensors: [TensorReport.Finding] = []
  /// Settings of `config.json` that change what is computed and differ.
  public internal(set) var configuration: [String] = []

  /// The first tensor that is out of line.
  public var firstTensor: String? { tensors.first?.tensor }

  /// Whether no fault was found: the settings are the same, and all compared weights are within their formats'
  /// errors. A layer may still add more error than usual.
  public var ok: Bool { tensors.isEmpty && configuration.isEmpty }

  private enum CodingKeys: String, CodingKey {
    case ok, configuration, firstLayer, firstTensor, tensors, embedding, vision, layers, output
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(ok, forKey: .ok)
    try container.encode(configuration, forKey: .configuration)
    try container.encodeIfPresent(firstLayer, forKey: .firstLayer)
    try container.encodeIfPresent(firstTensor, forKey: .firstTensor)
    try container.encode(tensors, forKey: .tensors)
    try container.encodeIfPresent(embedding, forKey: .embedding)
    try container.encodeIfPresent(vision, forKey: .vision)
    try container.encode(layers, forKey: .layers)
    try container.encodeIfPresent(output, forKey: .output)
  }
}

/// How far a stage of the candidate is from the reference's, given the same input.
public struct StageFigures: Encodable, Hashable, Sendable {
  /// The error relative to the stage's output or, for a layer, to its contribution to the residual stream; over all
  /// tokens.
  public let relativeError: Double
  /// The same for the worst token.
  public let worstTokenError: Double
  /// The limit for ``relativeError``, given how the weights are stored.
  public let limit: Double

  /// How much larger a single token's error may be.
  static let tokenSlack = 3.0

  /// Whether the errors are in line; NaN is not.
  public var ok: Bool { relativeError <= limit && worstTokenError <= limit * Self.tokenSlack }

  private enum CodingKeys: String, CodingKey {
    case relativeError, worstTokenError, limit, ok
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(relativeError, forKey: .relativeError)
    try container.encode(worstTokenError, forKey: .worstTokenError)
    try container.encode(limit, forKey: .limit)
    try container.encode(ok, forKey: .ok)
  }
}

/// The error of a candidate's layer, given the reference layer's input and experts.
public struct LayerFigures: Encodable, Hashable, Sendable {
  /// The layer, from 0.
  public let layer: Int
  /// The errors.
  public let figures: StageFigures
  /// Whether the errors are in line.
  public var ok: Bool { figures.ok }

  private enum CodingKeys: String, CodingKey { case layer }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(layer, forKey: .layer)
    try figures.encode(to: encoder)
  }
}
