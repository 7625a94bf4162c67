/// What a search for the first fault found.
public struct BisectionReport: Encodable, Sendable {
  /// How the embedded tokens differ; `nil` where nothing was run.
  public internal(set) var embedding: StageFigures?
  /// How the vectors of pictures differ; `nil` without pictures.
  public internal(set) var vision: StageFigures?
  /// Every layer's errors.
  public internal(set) var layers: [LayerFigures] = []
  /// How the logits of the same hidden states differ.
  public internal(set) var output: StageFigures?
  /// The layer of the first fault; `nil` if there is none, or it is in no layer.
  public internal(set) var firstLayer: Int?
  /// What is wrong with the weights there, in the order in which they are used.
  public internal(set) var tensors: [TensorReport.Finding] = []
  /// Settings of `config.json` that change what is computed and are not the same.
  public internal(set) var configuration: [String] = []

  /// The first tensor that is out of line.
  public var firstTensor: String? { tensors.first?.tensor }

  /// Whether no fault was found: the settings are the same, and all weights that were compared are what their formats
  /// make them. A layer may add more than it usually does all the same.
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

/// How far a stage of the candidate is from the reference's, both having got the same input.
public struct StageFigures: Encodable, Hashable, Sendable {
  /// The error over what the stage gives or, of a layer, adds to the residual stream; all tokens taken together.
  public let relativeError: Double
  /// The same for the token with the largest.
  public let worstTokenError: Double
  /// What ``relativeError`` may be, given how the weights are stored.
  public let limit: Double

  /// How much further away a single token may be.
  static let tokenSlack = 3.0

  /// Whether the errors are in line; what is no number is not.
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

/// What a layer of the candidate makes of the very input that the reference's layer gets, through the same experts.
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
