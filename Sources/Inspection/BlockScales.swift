internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import Quantization
internal import TensorFormats

/// The scales of a block-FP8 weight: one per tile of elements, edge tiles partial.
///
/// Source: published block-FP8 checkpoints; a weight `X.weight` has its scales in `X.weight_scale_inv`, a value is the
/// stored number times its tile's scale, and `quantization_config.weight_block_size` gives the tile's rows and columns.
struct BlockScales: Sendable {
  /// Rows and columns of a tile.
  struct Tile: Hashable, Sendable {
    /// What a checkpoint has that does not say.
    static let standard = Tile(rows: 128, columns: 128)

    let rows: Int
    let columns: Int
  }

  /// More scales than this are not held in memory: they would scale a weight of 2⁴² elements.
  private static let limit = 1 << 28

  private let scales: [Float]
  private let rows: Int
  private let columns: Int
  private let tile: Tile
  private let tileRows: Int
  private let tileColumns: Int

  /// The name of a weight's scales.
  static func scaleName(ofWeight name: String) -> String { name + suffix }
  private static let suffix = "_scale_inv"

  /// The weight's name; `nil` if the name is not that of a scale.
  static func weightName(ofScale name: String) -> String? {
    name.hasSuffix(suffix) ? String(name.dropLast(suffix.count)) : nil
  }

  /// The tile of a checkpoint, by its `config.json`.
  ///
  /// - Throws: `.malformed` if what is there is no pair of positive numbers.
  static func tile(of checkpoint: Checkpoint) throws(CheckpointError) -> Tile {
    guard let configuration = try CheckpointMetadata.configuration(of: checkpoint),
      let stated =
        [configuration, configuration["text_config"] ?? .null].lazy
        .compactMap({ $0["quantization_config"]?["weight_block_size"] }).first,
      stated != .null
    else { return .standard }
    guard let sides = stated.integers, sides.count == 2,
      sides.allSatisfy({ (1...Int(Int32.max)).contains($0) })
    else {
      throw CheckpointError(
        .malformed,
        "quantization_config.weight_block_size is \(stated.summary), not the rows and columns of a tile",
        path: "\(checkpoint.directory)/config.json")
    }
    return Tile(rows: sides[0], columns: sides[1])
  }

  /// Reads the scales of a weight.
  ///
  /// - Throws: `.malformed` if there is not one scale per tile, `.unsupported` if they are of a type that is not read
  ///   here.
  init(_ tensor: Checkpoint.Tensor, of weight: Checkpoint.Tensor, in checkpoint: Checkpoint, tile: Tile)
    throws(CheckpointError)
  {
    self.tile = tile
    func tiles(_ length: Int, _ side: Int) -> Int { length / side + (length % side == 0 ? 0 : 1) }
    let shape = weight.shape.dimensions
    guard shape.count >= 2 else {
      throw CheckpointError(.malformed, "has scales but fewer than two dimensions", tensor: weight.name)
    }
    rows = shape[shape.count - 2]
    columns = shape[shape.count - 1]
    tileRows = tiles(rows, tile.rows)
    tileColumns = tiles(columns, tile.columns)
    let expected = shape.dropLast(2) + [tileRows, tileColumns]
    guard tensor.shape.dimensions == Array(expected) else {
      throw CheckpointError(
        .malformed,
        "has the shape \(tensor.shape), but a weight of \(weight.shape) in tiles of \(tile.rows) x \(tile.columns) "
          + "has \(Array(expected))",
        path: checkpoint.files[tensor.file].source.path, tensor: tensor.name,
        remedy: "quantization_config.weight_block_size in config.json gives the size of the tiles")
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
    var index = 0
    while index < values.count {
      let element = start + index
      let column = element % columns
      let row = element / columns
      let scale = scales[
        ((row / rows) * tileRows + row % rows / tile.rows) * tileColumns + column / tile.columns]
      // To the end of the tile, of the row or of the values, whichever is first.
      let run = min(tile.columns - column % tile.columns, columns - column, values.count - index)
      for position in index..<(index + run) { values[position] *= scale }
      index += run
    }
  }
}
