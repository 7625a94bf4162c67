internal import Checkpoint
public import StoredWeights
internal import Step3Model
internal import Synchronization
public import TensorFormats

/// Computes the contribution of one feed-forward part, for the other end of a connection.
///
/// It holds only the part's weights, and knows nothing about the other ranks. Messages are those of `Frame`.
public struct FFNServer: Sendable {
  private let hello: PartHello
  private let dimensions: ModelDimensions
  private let products: Products
  private let network: LocalFeedForward
  private let chosen = ChosenExperts()

  /// Prepares to serve a part.
  ///
  /// - Throws: `.unsupported` if the model is not a Step-3; `.invalidRequest` if the checkpoint is not an FFN part;
  ///   `.malformed` if its boxes are inconsistent.
  public init(_ weights: ModelWeights, _ products: Products) throws(CheckpointError) {
    guard let text = weights.configuration?.text else {
      throw CheckpointError(
        .unsupported, "this part does not belong to a model of the Step family, and only those can be run",
        path: weights.checkpoint.path)
    }
    hello = try PartHello(weights, text)
    dimensions = hello.dimensions
    self.products = products
    network = LocalFeedForward(weights, text, products, observer: chosen)
  }

  /// Answers requests until the other side says goodbye or closes the connection.
  ///
  /// - Parameter descriptor: A connected stream socket, which this call takes over and closes.
  /// - Throws: Any error here or on the wire; the other side is notified.
  public func serve(descriptor: Int32) throws { try serve(FrameStream(owning: descriptor)) }

  func serve(_ stream: FrameStream) throws {
    do {
      try stream.send(.hello, Frame.encoded(hello))
      guard let answer = try stream.receive() else { return }
      try accept(answer)
      while let frame = try stream.receive() {
        switch frame.kind {
        case .request: try stream.send(.reply, reply(to: frame.payload))
        case .goodbye: return
        default: throw CheckpointError(.malformed, "received a message (\(frame.kind)) instead of a request")
        }
      }
    } catch {
      Self.report(error, on: stream)
      throw error
    }
  }

  /// Reports an error to the other side, if it is still listening.
  static func report(_ error: any Error, on stream: FrameStream) {
    guard let payload = try? Frame.encoded(RemoteFailure(error)) else { return }
    try? stream.send(.failure, payload)
  }

  private func accept(_ frame: Frame) throws(CheckpointError) {
    guard frame.kind == .welcome else {
      throw CheckpointError(.malformed, "received a message (\(frame.kind)) instead of a welcome")
    }
    let welcome = try frame.decoded(Welcome.self)
    guard welcome.dimensions == dimensions else {
      throw CheckpointError(.malformed, "the attention side has a model of different dimensions")
    }
    guard welcome.identity == hello.identity else {
      throw CheckpointError(
        .malformed,
        "the attention side expects this part to be \(welcome.identity.standardName.printable), but it is "
          + hello.identity.standardName)
    }
  }

  private func reply(to payload: [UInt8]) throws -> [UInt8] {
    let routesHere = hello.identity.routesInFFN
    let request = try ForwardRequest(payload, for: dimensions, routesHere: routesHere)
    let output = try network.output(layer: request.layer, request.input, request.routing)
    let routing = routesHere ? chosen.take() : nil
    return try ForwardReply.encode(output, to: request, routing: routing, weightBytesRead: products.bytesRead)
  }
}

/// Keeps the router's last choice.
private final class ChosenExperts: ForwardObserver {
  private let routing = Mutex<Routing?>(nil)

  func note(_ routing: Routing, layer: Int) { self.routing.withLock { $0 = routing } }

  func take() -> Routing? {
    routing.withLock { value in
      defer { value = nil }
      return value
    }
  }
}
