internal import Checkpoint
internal import StoredWeights
package import Step3Model
package import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// The dimensions on which attention and the feed-forward ranks must agree.
package struct ModelDimensions: Codable, Hashable, Sendable {
  package let hiddenSize: Int
  package let layerCount: Int
  let moeLayers: [Int]
  package let expertCount: Int
  let expertsPerToken: Int
  let normalizesExpertWeights: Bool
  let intermediateSize: Int
  let expertIntermediateSize: Int
  let sharedExpertIntermediateSize: Int
  let expertLimits: [Double]
  let sharedExpertLimits: [Double]

  package init(_ text: Step3Configuration.Text) {
    hiddenSize = text.hiddenSize
    layerCount = text.layerCount
    moeLayers = text.moeLayers
    expertCount = text.expertCount
    expertsPerToken = text.expertsPerToken
    normalizesExpertWeights = text.normalizesExpertWeights
    intermediateSize = text.intermediateSize
    expertIntermediateSize = text.expertIntermediateSize
    sharedExpertIntermediateSize = text.sharedExpertIntermediateSize
    expertLimits = text.expertLimits
    sharedExpertLimits = text.sharedExpertLimits
  }
}

/// What a feed-forward rank sends when it is ready: which part it is and what it found in its files.
package struct PartHello: Codable, Hashable, Sendable {
  let toolkitVersion: String
  let dimensions: ModelDimensions
  let identity: PartIdentity
  /// What it holds of each network, by layer.
  let shares: [FFNShare]
  /// The layers of which it holds the router, whole.
  let routers: [Int]

  /// Examines an opened part.
  ///
  /// - Throws: `.invalidRequest` if it is not one, or not of the FFN side; `.malformed` if its boxes are invalid.
  init(_ weights: ModelWeights, _ text: Step3Configuration.Text) throws(CheckpointError) {
    let path = weights.checkpoint.path
    guard let identity = try PartitionRecord(of: weights.checkpoint)?.identity else {
      throw CheckpointError(
        .invalidRequest, "this is not part of a partition set", path: path,
        remedy: "step3-convert --partition afd creates them")
    }
    guard identity.role == .ffn else {
      throw CheckpointError(
        .invalidRequest, "this is a part of the \(identity.role.rawValue) side, not of the FFN side",
        path: path)
    }
    var shares: [FFNShare] = []
    for layer in 0..<text.layerCount {
      for network in FFNNetwork.of(layer: layer, text) {
        if let share = try FFNShare(network, layer: layer, in: weights, text) { shares.append(share) }
      }
    }
    toolkitVersion = TensorFormats.toolkitVersion
    dimensions = ModelDimensions(text)
    self.identity = identity
    self.shares = shares
    routers = text.moeLayers.filter { layer in
      let router = weights[Step3TensorName(.router, layer: layer)]
      return router?.shape.dimensions == [text.expertCount, text.hiddenSize] && router?.isComplete == true
    }
  }
}

/// Attention's reply to a rank that it accepts.
package struct Welcome: Codable, Hashable, Sendable {
  let dimensions: ModelDimensions
  /// The part that attention expects the rank to be.
  let identity: PartIdentity
}

/// An error that happened on the other side.
package struct RemoteFailure: Codable, Sendable {
  let code: String
  let message: String
  let path: String?
  let offset: Int?
  let tensor: String?
  let remedy: String?

  init(_ error: any Error) {
    let known = error as? CheckpointError
    code = known?.code.rawValue ?? "internal"
    // Truncated, so that the message always fits.
    message = String((known?.message ?? "\(error)").prefix(4000))
    path = known?.path.map { String($0.prefix(4000)) }
    offset = known?.offset
    tensor = known?.tensor.map { String($0.prefix(1000)) }
    remedy = known?.remedy.map { String($0.prefix(1000)) }
  }

  /// The error, with the part's name.
  package func error(of part: String) -> CheckpointError {
    CheckpointError(
      CheckpointError.Code(rawValue: code), "FFN part \(part): \(message)", path: path, offset: offset,
      tensor: tensor, remedy: remedy)
  }
}

extension Frame {
  /// The JSON in a message.
  ///
  /// - Throws: `.malformed`.
  package func decoded<Value: Decodable>(_ type: Value.Type) throws(CheckpointError) -> Value {
    do {
      return try JSONDecoder().decode(type, from: Data(payload))
    } catch {
      throw CheckpointError(.malformed, "a message (\(kind)) does not follow the protocol")
    }
  }

  /// A message's JSON.
  static func encoded(_ value: some Encodable) throws -> [UInt8] { Array(try JSONEncoder().encode(value)) }
}
