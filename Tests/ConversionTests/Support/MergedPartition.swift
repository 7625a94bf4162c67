import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Foundation
import Quantization
import ShardPlanning
import TensorFormats
import Testing

/// The parts of a partition merged again, tensor by tensor, from the plan's boxes alone.
struct MergedPartition {
  struct Tensor {
    let elementType: ElementType
    let shape: [Int]
    var bytes: [UInt8]
    /// How often each byte was written; a tensor replicated in several parts counts once.
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
        // A slice's shape is its own.
        if tensor.operation.part == .shape || (asValues && tensor.role == .scale) { continue }
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
    let (shape, origin, extent) = try box(of: tensor, asValues: type != tensor.elementType)
    let rank = shape.count
    // Scales that several slices of a matrix hold are compared.
    let isCopy = isCopy || tensor.operation.part == .matrixScales || isReplicated(tensor)
    let block = type.block
    let size = try #require(TensorShape(shape).byteCount(as: type))
    var whole =
      tensors[tensor.name]
      ?? Tensor(
        elementType: type, shape: shape, bytes: [UInt8](repeating: 0, count: size),
        writes: [UInt8](repeating: 0, count: size))
    #expect(whole.elementType == type, "\(tensor.name) has different types in different parts")
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
      if isCopy, whole.writes[target] == 1 {
        #expect(
          whole.bytes[target..<target + length] == content[row * length..<(row + 1) * length],
          "copies of \(tensor.name) differ")
        continue
      }
      whole.bytes.replaceSubrange(target..<target + length, with: content[row * length..<(row + 1) * length])
      for byte in target..<target + length { whole.writes[byte] += 1 }
    }
    tensors[tensor.name] = whole
  }

  /// The tensor's box in units of its contents: packed codes, groups, tiles, matrices.
  private func box(
    of tensor: ShardPlan.Tensor, asValues: Bool
  ) throws -> (shape: [Int], origin: [Int], extent: [Int]) {
    let source = tensor.source
    var (shape, origin, extent) = (source.shape.dimensions, source.origin, source.extent)
    guard let scheme = tensor.operation.scheme?.scheme, !asValues else { return (shape, origin, extent) }
    let rank = shape.count
    func divide(_ axis: Int, by unit: Int) {
      shape[axis] = (shape[axis] + unit - 1) / unit
      origin[axis] /= unit
      extent[axis] = (extent[axis] + unit - 1) / unit
    }
    func reduce() {
      shape = rank == 3 ? [shape[0]] : [1]
      origin = rank == 3 ? [origin[0]] : [0]
      extent = rank == 3 ? [extent[0]] : [1]
    }
    switch tensor.operation.part {
    case nil: break
    case .codes: divide(rank - 1, by: scheme.geometry.codesPerElement)
    case .scales:
      switch scheme {
      case .fp8Block(let rows, let columns):
        divide(rank - 2, by: rows)
        divide(rank - 1, by: columns)
      case .fp8Channel, .int8Channel: (shape[rank - 1], origin[rank - 1], extent[rank - 1]) = (1, 0, 1)
      case .int4Group, .nvfp4, .mxfp4: divide(rank - 1, by: scheme.groupLength ?? 1)
      }
    case .matrixScales: reduce()
    case .shape: break
    }
    return (shape, origin, extent)
  }

  /// Whether a slice of rows has the scales of the whole rows.
  private func isReplicated(_ tensor: ShardPlan.Tensor) -> Bool {
    tensor.operation.part == .scales && tensor.operation.scheme?.scheme.scalesWholeRows == true
      && tensor.source.extent.last != tensor.source.shape.dimensions.last
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
