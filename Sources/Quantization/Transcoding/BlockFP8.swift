public import TensorFormats

/// Block-FP8: F8_E4M3 codes with one F32 scale for each tile of 128 x 128 elements of a matrix, as DeepSeek-V3 and
/// StepFun publish their models (`weight` and `weight_scale_inv`).
///
///     scale = max(amax, 1e-12) / 448          in F32, amax = the tile's largest magnitude
///     code  = F8_E4M3(x / scale)              the quotient in F32, then to nearest, ties to even, saturating
///     value = code * scale                    in F32
///
/// The floor of 1e-12 keeps a tile of zeros from dividing by zero; its codes are zeros. Tiles at the right and lower
/// edge are partial. A stacked tensor [E, R, C] is E matrices, none of whose tiles reaches into the next; scales are
/// [E, ceil(R/128), ceil(C/128)].
///
/// Rows can be encoded in bands: a multiple of 128 rows starting at a multiple of 128 gives, with its scale rows, the
/// same result as a matrix of that height.
public struct BlockFP8: Hashable, Sendable {
  /// The side of a tile.
  public static let side = 128

  /// The rows of one matrix.
  public let rows: Int
  /// The columns of one matrix.
  public let columns: Int
  /// The rows of a tile.
  public let tileRows: Int
  /// The columns of a tile.
  public let tileColumns: Int

  /// Describes matrices of one size.
  ///
  /// - Parameters:
  ///   - rows: Rows of a matrix.
  ///   - columns: Columns of a matrix.
  ///   - tileRows: The rows of a tile. Tiles of other sizes than the format's own are decoded, not encoded.
  ///   - tileColumns: Its columns.
  /// - Throws: `.malformed` if a dimension is not positive or their product overflows.
  public init(
    rows: Int, columns: Int, tileRows: Int = BlockFP8.side, tileColumns: Int = BlockFP8.side
  ) throws(CheckpointError) {
    guard rows > 0, columns > 0, TensorShape(checking: [rows, columns]) != nil, tileRows > 0, tileColumns > 0
    else {
      throw CheckpointError(
        .malformed,
        "a matrix of \(rows) x \(columns) elements cannot be divided into tiles of \(tileRows) x \(tileColumns)"
      )
    }
    self.rows = rows
    self.columns = columns
    self.tileRows = tileRows
    self.tileColumns = tileColumns
  }

  /// The number of tile rows.
  public var scaleRows: Int { (rows - 1) / tileRows + 1 }
  /// The number of tile columns.
  public var scaleColumns: Int { (columns - 1) / tileColumns + 1 }
  /// Scales of one matrix.
  public var scaleCount: Int { scaleRows * scaleColumns }

  /// A tile's F32 values, before and after: the buffers that one thread needs.
  public struct Scratch: Sendable {
    var values = [Float](repeating: 0, count: BlockFP8.side * BlockFP8.side)
    var restored = [Float](repeating: 0, count: BlockFP8.side * BlockFP8.side)

    /// Makes the buffers.
    public init() {}
  }

  /// The scale of a tile whose largest magnitude is `amax`.
  public static func scale(amax: Float) -> Float { max(amax, 1e-12) / 448 }
}

// MARK: - Tiles

/// One tile of the stacked matrices.
struct TilePlace {
  /// Its first row, of all stacked rows, and its first column.
  var row: Int
  var column: Int
  /// Its size.
  var rows: Int
  var columns: Int

  /// Its elements.
  var count: Int { rows * columns }

  /// Where the elements of one of its rows begin, counted from the first matrix.
  func offset(ofRow index: Int, _ rowLength: Int) -> Int { (row + index) * rowLength + column }
}

extension BlockFP8 {
  /// Where a tile is.
  func place(ofTile tile: Int) -> TilePlace {
    let (matrix, inside) = tile.quotientAndRemainder(dividingBy: scaleCount)
    let (down, across) = inside.quotientAndRemainder(dividingBy: scaleColumns)
    return TilePlace(
      row: matrix * rows + down * Self.side, column: across * Self.side,
      rows: min(Self.side, rows - down * Self.side), columns: min(Self.side, columns - across * Self.side))
  }

  /// The number of matrices with these sizes.
  func checkSizes(codes: Int, scales: Int) throws(CheckpointError) -> Int {
    let (matrices, rest) = codes.quotientAndRemainder(dividingBy: rows * columns)
    guard rest == 0, scales == matrices * scaleCount else {
      throw CheckpointError(
        .malformed,
        "\(codes) codes and \(scales) scales are not a whole number of matrices of \(rows) x \(columns) elements with "
          + "\(scaleCount) scales each")
    }
    return matrices
  }
}
