internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import Quantization
internal import TensorFormats

/// The scales of a block-FP8 weight: one per tile of 128 × 128 elements, edge tiles partial.
///
/// Source: `quantization_config.weight_block_size` of published block-FP8 checkpoints; a weight `X.weight` has its
/// scales in `X.weight_scale_inv`, and a value is the stored number times its tile's scale.
struct BlockScales: Sendable {
  /// Rows and columns of a tile.
  static let tile = 128
  /// More scales than this are not held in memory: they would scale a weight of 2⁴² elements.
  private static let limit = 1 << 28

  private let scales: [Float]
  private let rows: Int
  private let columns: Int

  /// The weight's name; `nil` if the name is not that of a scale.
  static func weightName(ofScale name: String) -> String? {
    name.hasSuffix("_scale_inv") ? String(name.dropLast("_scale_inv".count)) : nil
  }

  /// The scales that belong to a weight; `nil` if it has none.
  static func scaleTensor(of weight: Checkpoint.Tensor, in checkpoint: Checkpoint) -> Checkpoint.Tensor? {
    weight.elementType == .f8E4M3 ? checkpoint[weight.name + "_scale_inv"] : nil
  }

  /// Reads the scales of a weight.
  ///
  /// - Throws: `.malformed` if there is not one scale per tile, `.unsupported` if they are of a type that is not read
  ///   here.
  init(_ tensor: Checkpoint.Tensor, of weight: Checkpoint.Tensor, in checkpoint: Checkpoint)
    throws(CheckpointError)
  {
    func tiles(_ length: Int) -> Int { length / Self.tile + (length % Self.tile == 0 ? 0 : 1) }
    let shape = weight.shape.dimensions
    guard shape.count >= 2 else {
      throw CheckpointError(.malformed, "has scales but fewer than two dimensions", tensor: weight.name)
    }
    rows = shape[shape.count - 2]
    columns = shape[shape.count - 1]
    let expected = shape.dropLast(2) + [tiles(rows), tiles(columns)]
    guard tensor.shape.dimensions == Array(expected) else {
      throw CheckpointError(
        .malformed,
        "has the shape \(tensor.shape), but a weight of \(weight.shape) in tiles of \(Self.tile) has \(expected)",
        path: checkpoint.files[tensor.file].source.path, tensor: tensor.name)
    }
    guard tensor.elementType == .f32 || tensor.elementType == .bf16, tensor.shape.elementCount <= Self.limit
    else {
      throw CheckpointError(
        .unsupported, "scales of type \(tensor.elementType) are not read", tensor: tensor.name)
    }
    let bytes = try checkpoint.files[tensor.file].source.readBytes(tensor.byteRange)
    let span = unsafe bytes.span.bytes
    scales = (0..<tensor.shape.elementCount).map { index in
      tensor.elementType == .f32
        ? unsafe span.unsafeLoadUnaligned(fromByteOffset: index * 4, as: Float.self)
        : Float(
          bitPattern: UInt32(unsafe span.unsafeLoadUnaligned(fromByteOffset: index * 2, as: UInt16.self))
            << 16)
    }
  }

  /// Multiplies values, which start at element `start` of the weight, with their scales.
  func apply(to values: inout MutableSpan<Float>, from start: Int) {
    let tileColumns = (columns + Self.tile - 1) / Self.tile
    let tileRows = (rows + Self.tile - 1) / Self.tile
    var index = 0
    while index < values.count {
      let element = start + index
      let column = element % columns
      let row = element / columns
      let scale = scales[
        ((row / rows) * tileRows + row % rows / Self.tile) * tileColumns + column / Self.tile]
      // To the end of the tile, of the row or of the values, whichever is first.
      let run = min(Self.tile - column % Self.tile, columns - column, values.count - index)
      for position in index..<(index + run) { values[position] *= scale }
      index += run
    }
  }
}
