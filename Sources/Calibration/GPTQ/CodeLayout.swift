internal import Quantization
internal import QuantizationRecipes
internal import TensorFormats

/// The layout of a weight's codes and scales, row by row, as kept in the working directory.
struct CodeLayout: Sendable {
  /// The bytes of a row's codes, or of its blocks.
  let codeBytes: Int
  /// The bytes of the scales of a row, or of a group of rows that share them; 0 if they are in the blocks.
  let scaleBytes: Int
  /// How many rows share scales.
  let scaleHeight: Int
  /// Whether each matrix also has a scale.
  let hasMatrixScale: Bool

  /// - Throws: `.malformed` if rows are not whole groups or blocks, `.unsupported` for formats that are not encoded.
  init(_ format: StorageFormat, columns: Int) throws(CheckpointError) {
    switch format {
    case .scheme(let stored) where stored.scheme == .fp8Tiles:
      codeBytes = columns
      scaleBytes = 4 * stored.scheme.geometry.scaleColumns(of: columns)
      scaleHeight = BlockFP8.side
      hasMatrixScale = false
    case .scheme(let stored):
      let scheme = try RowScheme(stored)
      codeBytes = try scheme.codeBytes(columns: columns)
      scaleBytes = try scheme.scaleBytes(columns: columns)
      scaleHeight = 1
      hasMatrixScale = stored.scheme.geometry.hasMatrixScale
    case .element(let type):
      guard let bytes = type.block.byteCount(ofElements: columns) else {
        throw CheckpointError(
          .malformed, "rows of \(columns) elements are not a whole number of \(type) blocks")
      }
      codeBytes = bytes
      scaleBytes = 0
      scaleHeight = 1
      hasMatrixScale = false
    case .keep: throw CheckpointError(.unsupported, "tensors that are kept have no new codes")
    }
  }

  /// The number of scale rows for `rows` rows.
  func scaleRows(of rows: Int) -> Int { (rows + scaleHeight - 1) / scaleHeight }
}
