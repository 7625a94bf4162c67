package import TensorFormats

/// A request to a rank: tokens of one layer.
///
/// Little-endian: number (u64), layer, tokens, hidden size, experts per token (u32 each; 0 experts for no routing), the
/// formats of these tokens and of the reply (u8 each, ``WireValues``), 2 bytes of zeros; then experts (i32) and weights
/// (F32), `[tokens, experts per token]` each; then the tokens.
package struct ForwardRequest {
  package let number: UInt64
  package let layer: Int
  package let input: Activations
  package let routing: Routing?
  package let results: WireValues

  /// The bytes of a request.
  package static func encode(
    number: UInt64, layer: Int, _ input: Activations, _ routing: Routing?, as format: WireValues,
    results: WireValues
  ) throws(CheckpointError) -> [UInt8] {
    var writer = MessageWriter()
    writer.append(number)
    for value in [layer, input.rows, input.columns, routing?.perToken ?? 0] { writer.append(UInt32(value)) }
    writer.append(format.rawValue)
    writer.append(results.rawValue)
    writer.append(UInt16(0))
    if let routing {
      precondition(routing.tokenCount == input.rows)
      for expert in routing.experts { writer.append(expert) }
      for weight in routing.weights { writer.append(weight) }
    }
    try writer.append(input, as: format)
    return writer.bytes
  }

  /// Reads a request for a model.
  ///
  /// - Throws: `.malformed` for any request that is invalid for the model.
  package init(
    _ payload: [UInt8], for dimensions: ModelDimensions, routesHere: Bool
  ) throws(CheckpointError) {
    var reader = MessageReader(payload, name: "a request")
    number = try reader.integer(UInt64.self)
    layer = Int(try reader.integer(UInt32.self))
    let tokens = Int(try reader.integer(UInt32.self))
    let hidden = Int(try reader.integer(UInt32.self))
    let perToken = Int(try reader.integer(UInt32.self))
    let format = WireValues(rawValue: try reader.integer(UInt8.self))
    let results = WireValues(rawValue: try reader.integer(UInt8.self))
    guard try reader.integer(UInt16.self) == 0, let format, let results, results != .fp8 else {
      throw Self.malformed("formats that do not exist")
    }
    guard layer < dimensions.layerCount, hidden == dimensions.hiddenSize else {
      throw Self.malformed("layer \(layer), tokens of \(hidden) elements")
    }
    let needsRouting = dimensions.moeLayers.contains(layer) && !routesHere
    guard perToken == (needsRouting ? min(dimensions.expertsPerToken, dimensions.expertCount) : 0) else {
      throw Self.malformed("\(perToken) experts for each token of layer \(layer)")
    }
    if needsRouting {
      let experts = try reader.integers(tokens * perToken)
      guard experts.allSatisfy({ (0..<dimensions.expertCount).contains(Int($0)) }) else {
        throw Self.malformed("an expert that the model does not have")
      }
      routing = Routing(perToken: perToken, experts: experts, weights: try reader.floats(tokens * perToken))
    } else {
      routing = nil
    }
    self.results = results
    input = try reader.rest(format, rows: tokens, columns: hidden)
  }

  private static func malformed(_ what: String) -> CheckpointError {
    CheckpointError(.malformed, "a request names \(what)")
  }
}

/// A rank's reply: its partial sums.
///
/// Little-endian: the request's number (u64), the bytes of weights read so far (u64), tokens, hidden size, experts per
/// token (u32 each; 0 unless the rank chose them), the format (u8), 3 bytes of zeros; if the rank chose, experts (i32)
/// and weights (F32), `[tokens, experts per token]`, and margins (F32), `[tokens]`; then the sums.
package struct ForwardReply {
  package let number: UInt64
  package let weightBytesRead: UInt64
  package let output: Activations
  /// The rank's choice, if the router is on its side.
  package let routing: Routing?

  package static func encode(
    _ output: Activations, to request: ForwardRequest, routing: Routing?, weightBytesRead: Int
  ) throws(CheckpointError) -> [UInt8] {
    var writer = MessageWriter()
    writer.append(request.number)
    writer.append(UInt64(weightBytesRead))
    for value in [output.rows, output.columns, routing?.perToken ?? 0] { writer.append(UInt32(value)) }
    writer.append(request.results.rawValue)
    for _ in 0..<3 { writer.append(UInt8(0)) }
    if let routing {
      for expert in routing.experts { writer.append(expert) }
      for weight in routing.weights { writer.append(weight) }
      for margin in routing.margins { writer.append(margin) }
    }
    try writer.append(output, as: request.results)
    return writer.bytes
  }

  /// Reads the reply to a request.
  ///
  /// - Parameters:
  ///   - perToken: The experts that the rank chooses for each token; 0 if they are chosen here.
  ///   - expertCount: The experts that it chooses from.
  /// - Throws: `.malformed` if it does not answer that request, or names an expert that the model does not have.
  package init(
    _ payload: [UInt8], number expected: UInt64, rows: Int, columns: Int, as format: WireValues,
    perToken: Int, of expertCount: Int
  ) throws(CheckpointError) {
    var reader = MessageReader(payload, name: "a reply")
    number = try reader.integer(UInt64.self)
    weightBytesRead = try reader.integer(UInt64.self)
    let found = [
      try reader.integer(UInt32.self), try reader.integer(UInt32.self), try reader.integer(UInt32.self),
    ]
    let stated = try reader.integer(UInt32.self)
    guard number == expected, found == [UInt32(rows), UInt32(columns), UInt32(perToken)],
      stated == UInt32(format.rawValue)
    else {
      throw CheckpointError(.malformed, "a reply belongs to another request")
    }
    if perToken > 0 {
      let experts = try reader.integers(rows * perToken)
      guard experts.allSatisfy({ (0..<expertCount).contains(Int($0)) }) else {
        throw CheckpointError(.malformed, "a reply names an expert that the model does not have")
      }
      routing = Routing(
        perToken: perToken, experts: experts,
        weights: try reader.floats(rows * perToken), margins: try reader.floats(rows))
    } else {
      routing = nil
    }
    output = try reader.rest(format, rows: rows, columns: columns)
  }
}
