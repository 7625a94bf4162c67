import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import Quantization
import ShardPlanning
import TensorFormats
import Testing

/// The parts of a partition put together again, tensor by tensor, from nothing but the plan's boxes.
struct MergedPartition {
  struct Tensor {
    let elementType: ElementType
    let shape: [Int]
    var bytes: [UInt8]
    /// How often each byte was written; a tensor that several parts have all of counts once.
    var writes: [UInt8]
  }

  /// By the name in the output.
  private(set) var tensors: [String: Tensor] = [:]

  /// - Parameter asValues: Whether to merge what the bytes decode to, as F32, with scales multiplied in, instead of
  ///   the bytes.
  init(_ plan: ShardPlan, at directory: String, asValues: Bool = false) throws {
    let replicated = Set(plan.replicated.map(\.tensor))
    for part in plan.parts {
      let path = part.directory.isEmpty ? directory : "\(directory)/\(part.directory)"
      let checkpoint = try Checkpoint.open(path)
      for tensor in part.tensors {
        if asValues, tensor.role == .scale { continue }
        let content: [UInt8]
        if asValues {
          content = try values(of: tensor.name, in: checkpoint).withUnsafeBytes { Array($0) }
        } else {
          content = try TensorBytes(tensor.name, in: checkpoint).bytes
        }
        try add(
          tensor, content, as: asValues ? .f32 : tensor.elementType,
          isCopy: replicated.contains(tensor.source.tensor))
      }
    }
  }

  private mutating func add(
    _ tensor: ShardPlan.Tensor, _ content: [UInt8], as type: ElementType, isCopy: Bool
  ) throws {
    // Scales are counted in tiles, in the last two dimensions.
    let rank = tensor.source.extent.count
    func scaled(_ numbers: [Int]) -> [Int] {
      guard tensor.derivation == .blockFP8Scales else { return numbers }
      return numbers.enumerated().map { $0 >= rank - 2 ? ($1 + 127) / 128 : $1 }
    }
    let (shape, origin, extent) = (
      scaled(tensor.source.shape.dimensions), scaled(tensor.source.origin), scaled(tensor.source.extent)
    )
    let block = type.block
    let size = try #require(TensorShape(shape).byteCount(as: type))
    var whole =
      tensors[tensor.name]
      ?? Tensor(
        elementType: type, shape: shape, bytes: [UInt8](repeating: 0, count: size),
        writes: [UInt8](repeating: 0, count: size))
    #expect(whole.elementType == type, "\(tensor.name) has different types in different parts")
    if isCopy, whole.writes.first == 1 {
      #expect(whole.bytes == content, "copies of \(tensor.name) differ")
      return
    }
    guard rank > 0, size > 0 else {
      whole.bytes = content
      whole.writes = content.map { _ in 1 }
      tensors[tensor.name] = whole
      return
    }
    let length = extent[rank - 1] / block.elements * block.bytes
    let start = origin[rank - 1] / block.elements * block.bytes
    let rowBytes = shape[rank - 1] / block.elements * block.bytes
    for row in 0..<extent.dropLast().reduce(1, *) {
      var (rest, index, stride) = (row, 0, 1)
      for axis in (0..<rank - 1).reversed() {
        let (quotient, coordinate) = rest.quotientAndRemainder(dividingBy: extent[axis])
        index += (coordinate + origin[axis]) * stride
        stride *= shape[axis]
        rest = quotient
      }
      let target = index * rowBytes + start
      whole.bytes.replaceSubrange(target..<target + length, with: content[row * length..<(row + 1) * length])
      for byte in target..<target + length { whole.writes[byte] += 1 }
    }
    tensors[tensor.name] = whole
  }

  /// Whether every byte of every tensor was written exactly once.
  var isExact: Bool { tensors.values.allSatisfy { $0.writes.allSatisfy { $0 == 1 } } }

  func floats(of name: String) throws -> [Float] {
    try #require(tensors[name]).bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
  }
}

/// A tensor's bytes by its name.
struct TensorBytes {
  let bytes: [UInt8]

  init(_ name: String, in checkpoint: Checkpoint) throws {
    let tensor = try #require(checkpoint[name], "no tensor \(name)")
    bytes = try checkpoint.files[tensor.file].source.readBytes(tensor.byteRange)
  }
}
