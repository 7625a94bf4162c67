internal import ByteStreams
package import Checkpoint
internal import Step3Model
package import TensorFormats

/// What GGUF stores differently from published checkpoints: norms that those store around zero and GGUF around one, and
/// the factors of the rotary embedding, which a configuration states as a rule.
package enum GGUFValues {
  /// The model as stored in the given output format: each such norm is an F32 tensor computed when read, and the
  /// factors are a tensor only in GGUF.
  ///
  /// - Returns: `nil` if nothing is different.
  /// - Throws: What reading headers throws.
  /// - Complexity: O(number of tensors); reads no weights.
  package static func checkpoint(
    of weights: ModelWeights, writtenAs format: Checkpoint.Format
  ) throws(CheckpointError) -> Checkpoint? {
    let checkpoint = weights.checkpoint
    guard let configuration = weights.configuration, checkpoint.format != format else { return nil }
    let model = configuration.family.model
    let sign: Float = format == .gguf ? 1 : -1
    var hidden: Set<String> = []
    var derived: [Checkpoint.Derived] = []
    for name in weights.names {
      guard let known = model.tensor(published: name), known.suffix == .weight,
        case let row = model.row(of: known),
        row.offset != 0, let weight = weights[name], let tensor = weight.pieces.first?.stored.codes
      else { continue }
      hidden.insert(tensor.name)
      derived.append(
        Checkpoint.Derived(
          name: tensor.name, elementType: .f32, shape: weight.shape,
          source: ShiftedSource(weights: weights, weight: weight, offset: sign * row.offset),
          origins: [tensor],
          operation: "\(format == .gguf ? raised : lowered) by \(row.offset)"))
    }
    if let factors = model[.rotaryFactors], case let name = Step3TensorName(.rotaryFactors) {
      if format == .gguf, !weights.isPart || weights[Step3TensorName(.tokenEmbedding)] != nil,
        let values = configuration.text.rotaryFactors
      {
        derived.append(
          Checkpoint.Derived(
            name: model.published(name), elementType: .f32, shape: TensorShape([values.count]),
            source: MemorySource(littleEndian(values), path: checkpoint.path), origins: [],
            operation: "computed from config.json"))
      } else if format == .safetensors, let tensor = weights[name]?.pieces.first?.stored.codes {
        // The written configuration has the rule, which was found from these very factors.
        precondition(factors.scope == .global)
        hidden.insert(tensor.name)
      }
    }
    return hidden.isEmpty && derived.isEmpty ? nil : checkpoint.replacing(hidden, with: derived)
  }

  private static let (raised, lowered) = ("raised", "lowered")

  /// Whether a derived tensor is such a norm: ``Checkpoint/Checkpoint/Derived/operation``.
  package static func isShifted(_ operation: String) -> Bool {
    operation.hasPrefix(raised) || operation.hasPrefix(lowered)
  }

  /// How many elements of each such norm the addition rounds, so that subtracting does not restore them; norms without
  /// any are left out. For a GGUF file, how many are so small that they may have been rounded when it was written.
  ///
  /// - Throws: What reading them throws.
  package static func rounded(
    _ weights: ModelWeights, writtenAs format: Checkpoint.Format
  ) throws(CheckpointError) -> [(tensor: String, elements: Int)] {
    guard let model = weights.model, weights.checkpoint.format != format else { return [] }
    var found: [(tensor: String, elements: Int)] = []
    for name in weights.names {
      guard let known = model.tensor(published: name), known.suffix == .weight,
        case let row = model.row(of: known),
        row.offset != 0, let weight = weights[name]
      else { continue }
      let values = try weights.values(of: weight)
      let count =
        format == .gguf
        ? values.count { ($0 + row.offset) - row.offset != $0 }
        // Above this an element of BF16 has its last bit within what F32 resolves beside 1.
        : values.count { $0 != row.offset && ($0 - row.offset).magnitude < 0x1p-16 }
      if count > 0 { found.append((name, count)) }
    }
    return found
  }

  fileprivate static func littleEndian(_ values: [Float]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(values.count * 4)
    for value in values {
      let bits = value.bitPattern
      for shift in stride(from: 0, to: 32, by: 8) {
        bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(shift)))
      }
    }
    return bytes
  }
}

/// A vector with a number added to every element, in F32.
private struct ShiftedSource: ByteSource {
  let weights: ModelWeights
  let weight: ModelWeights.Weight
  let offset: Float

  var path: String { weights.checkpoint.path }
  var byteCount: Int { weight.shape.elementCount * 4 }

  func read(into buffer: inout MutableRawSpan, at position: Int) throws(CheckpointError) {
    guard position >= 0, buffer.byteCount <= byteCount - position else {
      throw CheckpointError(
        .truncated, "\(buffer.byteCount) bytes were requested, \(max(0, byteCount - position)) are left",
        path: path,
        offset: position, tensor: weight.name)
    }
    // Norms are short: reading a whole one is cheaper than selecting a part.
    let bytes = GGUFValues.littleEndian(try weights.values(of: weight).map { $0 + offset })
    for index in 0..<buffer.byteCount {
      buffer.storeBytes(of: bytes[position + index], toByteOffset: index, as: UInt8.self)
    }
  }
}
