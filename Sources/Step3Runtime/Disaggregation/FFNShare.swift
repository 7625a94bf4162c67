internal import Checkpoint
internal import StoredWeights
internal import Step3Model
internal import TensorFormats

/// A feed-forward network of the model.
enum FFNNetwork: String, Codable, Hashable, Sendable, CaseIterable {
  /// That of a dense layer.
  case dense
  /// The expert that serves every token of a MoE layer.
  case shared
  /// The experts that tokens are routed to.
  case routed

  /// The names of `gate`, `up` and `down` in a layer.
  func names(layer: Int) -> (gate: Step3TensorName, up: Step3TensorName, down: Step3TensorName) {
    let modules: (Step3Module, Step3Module, Step3Module) =
      switch self {
      case .dense: (.denseGate, .denseUp, .denseDown)
      case .shared: (.sharedGate, .sharedUp, .sharedDown)
      case .routed: (.expertGate, .expertUp, .expertDown)
      }
    return (
      Step3TensorName(modules.0, layer: layer), Step3TensorName(modules.1, layer: layer),
      Step3TensorName(modules.2, layer: layer)
    )
  }

  /// The networks of a layer.
  static func of(layer: Int, _ text: Step3Configuration.Text) -> [FFNNetwork] {
    text.isMoE(layer: layer) ? [.shared, .routed] : [.dense]
  }

  /// The whole network's experts (1 if it is not a stack) and intermediate dimension.
  func size(_ text: Step3Configuration.Text) -> (experts: Int, inner: Int) {
    switch self {
    case .dense: (1, text.intermediateSize)
    case .shared: (1, text.sharedExpertIntermediateSize)
    case .routed: (text.expertCount, text.expertIntermediateSize)
    }
  }
}

/// What a rank holds of one feed-forward network: some experts, and of each some of the intermediate dimension.
struct FFNShare: Codable, Hashable, Sendable {
  let layer: Int
  let network: FFNNetwork
  /// The first expert, and the one after the last.
  let experts: [Int]
  /// The first element of the intermediate dimension, and the one after the last: rows of `gate` and `up`, columns of
  /// `down`.
  let inner: [Int]

  /// Finds out which part of a network is held.
  ///
  /// - Returns: `nil` if nothing is.
  /// - Throws: `.malformed` unless `gate`, `up` and `down` are held for the same experts and the same elements of the
  ///   intermediate dimension, in whole rows and columns otherwise.
  init?(
    _ network: FFNNetwork, layer: Int, in weights: ModelWeights, _ text: Step3Configuration.Text
  ) throws(CheckpointError) {
    let names = network.names(layer: layer)
    let (experts, inner) = network.size(text)
    let stack = network == .routed ? [experts] : []
    let gate = try Self.box(names.gate, stack + [inner, text.hiddenSize], in: weights)
    let up = try Self.box(names.up, stack + [inner, text.hiddenSize], in: weights)
    let down = try Self.box(names.down, stack + [text.hiddenSize, inner], in: weights)
    guard let gate, let up, let down else {
      if gate == nil, up == nil, down == nil { return nil }
      throw Self.malformed(
        names.gate, "only some of gate_proj, up_proj and down_proj are held", weights)
    }
    let axis = stack.count
    let rows = [gate.origin[axis], gate.origin[axis] + gate.extent[axis]]
    guard gate == up else {
      throw Self.malformed(names.up, "the part held differs from that of gate_proj", weights)
    }
    guard
      down.origin[axis + 1] == rows[0], down.origin[axis + 1] + down.extent[axis + 1] == rows[1],
      stack.isEmpty || (down.origin[0] == gate.origin[0] && down.extent[0] == gate.extent[0])
    else {
      throw Self.malformed(
        names.down, "the columns held are not the rows held of gate_proj", weights)
    }
    guard gate.extent[axis + 1] == text.hiddenSize, down.extent[axis] == text.hiddenSize else {
      throw Self.malformed(
        names.gate, "it is cut along the residual stream, with which no rank can compute", weights)
    }
    self.layer = layer
    self.network = network
    self.experts = stack.isEmpty ? [0, 1] : [gate.origin[0], gate.origin[0] + gate.extent[0]]
    self.inner = rows
  }

  private static func box(
    _ name: Step3TensorName, _ shape: [Int], in weights: ModelWeights
  ) throws(CheckpointError) -> TensorBox? {
    guard let weight = weights[name] else { return nil }
    guard weight.shape.dimensions == shape else {
      throw malformed(name, "has the shape \(weight.shape), but the configuration gives it \(shape)", weights)
    }
    guard let piece = weight.pieces.first, weight.pieces.count == 1 else {
      throw malformed(name, "it is held in several pieces, which is not allowed for a rank", weights)
    }
    return piece.box
  }

  private static func malformed(
    _ name: Step3TensorName, _ message: String, _ weights: ModelWeights
  ) -> CheckpointError {
    CheckpointError(.malformed, message, path: weights.checkpoint.path, tensor: weights.spelled(name))
  }
}
