import CheckpointTesting
import Foundation
import FuzzSupport
import Step3Model
import Step3Runtime
import TensorFormats

let dimensions: ModelDimensions = {
  do {
    let path = Fixtures.path("checkpoints/tiny/config.json")
    return ModelDimensions(
      try Step3Configuration(configJSON: Array(Data(contentsOf: URL(fileURLWithPath: path)))).text)
  } catch {
    fatalError("the fixture cannot be read: \(error)")
  }
}()

/// Any bytes from a peer: refused with an error, or a valid request or reply for the model.
func check(_ kind: Frame.Kind, _ payload: [UInt8]) {
  let frame = Frame(kind: kind, payload: payload)
  switch kind {
  case .hello: _ = try? frame.decoded(PartHello.self)
  case .welcome: _ = try? frame.decoded(Welcome.self)
  case .failure: _ = (try? frame.decoded(RemoteFailure.self))?.error(of: "part")
  case .goodbye: break
  case .request:
    for routesHere in [false, true] { checkRequest(payload, routesHere: routesHere) }
  case .reply:
    for format in WireValues.allCases {
      for perToken in [0, 2] { checkReply(payload, format, perToken: perToken) }
    }
  }
}

func checkRequest(_ payload: [UInt8], routesHere: Bool) {
  guard let request = try? ForwardRequest(payload, for: dimensions, routesHere: routesHere) else { return }
  require((0..<dimensions.layerCount).contains(request.layer), "a layer that is not there")
  require(request.input.columns == dimensions.hiddenSize, "tokens of another size")
  if let routing = request.routing {
    require(routing.tokenCount == request.input.rows, "not every token is routed")
    require(
      routing.experts.allSatisfy { (0..<dimensions.expertCount).contains(Int($0)) },
      "an expert that is not there")
  }
  // A peer may claim any number of empty rows; other rows take bytes.
  require(request.input.count <= payload.count, "more elements than bytes")
}

func checkReply(_ payload: [UInt8], _ format: WireValues, perToken: Int) {
  let rows = 3
  guard
    let reply = try? ForwardReply(
      payload, number: 7, rows: rows, columns: dimensions.hiddenSize, as: format, perToken: perToken,
      of: dimensions.expertCount)
  else { return }
  require(
    reply.output.rows == rows && reply.output.columns == dimensions.hiddenSize, "it answers something else")
  if let routing = reply.routing {
    require(
      routing.experts.allSatisfy { (0..<dimensions.expertCount).contains(Int($0)) },
      "an expert that is not there")
  }
}

exit(
  runFuzzer { bytes, count in
    var input = Array(UnsafeBufferPointer(start: bytes, count: count))
    guard input.count > 1 else { return 0 }
    if let header = try? Frame.parseHeader(Array(input.prefix(Frame.headerBytes))) {
      require(header.payloadBytes <= header.kind.limit, "a message is longer than any may be")
      check(header.kind, Array(input.dropFirst(Frame.headerBytes)))
      return 0
    }
    // Without a header, the first byte is the kind.
    if let kind = Frame.Kind(rawValue: UInt16(input.removeFirst() % 8)) { check(kind, input) }
    return 0
  })
