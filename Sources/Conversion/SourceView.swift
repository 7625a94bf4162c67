internal import Quantization
internal import ShardPlanning
internal import TensorFormats

/// How one source tensor is cut into rows, and which of them go into which output tensors.
///
/// A tensor counts as a stack of matrices: `[48, 5120, 7168]` is 48 matrices of 5120 rows. Where rows do not matter,
/// because nothing is sliced and every element is converted by itself (or not at all), a row is one block of the
/// element type, so that long vectors and tiny kernels alike are cut into units of the same size.
struct SourceView: Sendable {
  /// The elements that one unit has at the most, unless a single row (or band of tiles) has more: 2 Mi elements are
  /// 4 MiB of BF16, enough to keep a disk busy and small enough to spread one tensor over all cores.
  static let unitElements = 1 << 21

  /// The element type of the source.
  let elementType: ElementType
  /// Elements in a row.
  let columns: Int
  /// Bytes in a row.
  let rowBytes: Int
  /// Rows in each matrix of the stack.
  let matrixRows: Int
  /// Rows in all.
  let rowCount: Int
  /// Scales to multiply with, for block-FP8.
  let scale: ShardPlan.Scale?
  /// Whether a row is a row of the tensor, or just a block of it.
  let keepsRows: Bool
  /// Whether the tensor is a stack of matrices, be it of one.
  let isStack: Bool
  /// Whether block-FP8 is made of rows that lie in blocks themselves, so that they are decoded beforehand.
  let decodesFirst: Bool

  private let rowsPerUnit: Int
  /// Whether a unit stays within one matrix, as tiles of scales and importance matrices per expert need it.
  private let confined: Bool
  private let users: [User]

  /// An output tensor that takes a box of this one.
  private struct User: Sendable {
    let target: Int
    let matrices: Range<Int>
    let rows: Range<Int>
    let columns: Range<Int>
    let offset: Int
    /// The bytes of one row of the output.
    let rowBytes: Int
    /// How many rows of the source one row of the output stands for: 1, or for scales the height of a tile.
    let height: Int

    func outputRows(_ rows: Int) -> Int { (rows + height - 1) / height }
  }

  /// - Precondition: All tensors name the same source, and there is at least one.
  init(_ tensors: [(target: Int, tensor: ShardPlan.Tensor)]) {
    let source = tensors[0].tensor.source
    let type = source.elementType
    elementType = type
    scale = source.scale
    // Rows of everyday length are kept where values are converted, so that errors can name the row.
    let oddRows = !(32...Self.unitElements).contains(source.shape.columns)
    let indifferent = tensors.allSatisfy { _, tensor in
      let copied = tensor.elementType == type && tensor.derivation == .values
      let elementwise = type.block.elements == 1 && tensor.elementType.block.elements == 1 && oddRows
      return tensor.source.isWhole && source.scale == nil && (copied || elementwise)
    }
    keepsRows = !indifferent
    let dimensions = source.shape.dimensions
    isStack = dimensions.count > 2
    columns = indifferent ? type.block.elements : source.shape.columns
    rowBytes = type.block.byteCount(ofElements: columns) ?? 0
    rowCount = source.shape.elementCount / max(columns, 1)
    matrixRows = indifferent || dimensions.count < 2 ? rowCount : dimensions[dimensions.count - 2]

    let derives = tensors.contains { $0.tensor.derivation != .values }
    decodesFirst = derives && type.block.elements > 1
    let tileRows = source.scale?.tile.first ?? (derives ? BlockFP8.side : nil)
    confined = tileRows != nil || (isStack && tensors.contains { $0.tensor.importance != nil })
    let wanted = max(1, Self.unitElements / max(columns, 1))
    if let tileRows {
      rowsPerUnit = max(1, wanted / tileRows) * tileRows
    } else {
      rowsPerUnit = wanted
    }

    let (stackRows, rowColumns, stack) = (matrixRows, columns, matrixRows == 0 ? 0 : rowCount / matrixRows)
    users = tensors.map { target, tensor in
      let box = tensor.source
      let rank = box.extent.count
      if indifferent || rank == 0 {
        return User(
          target: target, matrices: 0..<stack, rows: 0..<stackRows, columns: 0..<rowColumns,
          offset: tensor.offset, rowBytes: tensor.elementType.block.byteCount(ofElements: rowColumns) ?? 0,
          height: 1)
      }
      let columns = box.origin[rank - 1]..<(box.origin[rank - 1] + box.extent[rank - 1])
      let rows =
        rank < 2 ? 0..<stackRows : box.origin[rank - 2]..<(box.origin[rank - 2] + box.extent[rank - 2])
      // Of the outer dimensions only the first is ever cut: whole experts.
      let inner = rank < 3 ? 1 : box.shape.dimensions[1..<(rank - 2)].reduce(1, *)
      let matrices =
        rank < 3 ? 0..<stack : (box.origin[0] * inner)..<((box.origin[0] + box.extent[0]) * inner)
      let isScales = tensor.derivation == .blockFP8Scales
      let width = isScales ? (columns.count + BlockFP8.side - 1) / BlockFP8.side : columns.count
      return User(
        target: target, matrices: matrices, rows: rows, columns: columns, offset: tensor.offset,
        rowBytes: tensor.elementType.block.byteCount(ofElements: width) ?? 0,
        height: isScales ? BlockFP8.side : 1)
    }
  }

  /// The source tensor's size.
  var byteCount: Int { rowCount * rowBytes }

  var unitCount: Int {
    guard rowCount > 0 else { return 0 }
    return confined ? rowCount / matrixRows * unitsPerMatrix : (rowCount + rowsPerUnit - 1) / rowsPerUnit
  }

  private var unitsPerMatrix: Int { (matrixRows + rowsPerUnit - 1) / rowsPerUnit }

  func rows(ofUnit index: Int) -> Range<Int> {
    guard confined else { return index * rowsPerUnit..<min((index + 1) * rowsPerUnit, rowCount) }
    let (matrix, piece) = index.quotientAndRemainder(dividingBy: unitsPerMatrix)
    let start = matrix * matrixRows
    return start + piece * rowsPerUnit..<start + min((piece + 1) * rowsPerUnit, matrixRows)
  }

  /// What becomes of a run of rows. The rows that one output tensor takes lie side by side there.
  func deliveries(of rows: Range<Int>) -> [WorkUnit.Delivery] {
    users.compactMap { user in
      var runs: [Range<Int>] = []
      var first: Int?
      let matrices = (rows.lowerBound / matrixRows)..<((rows.upperBound - 1) / matrixRows + 1)
      for matrix in matrices.clamped(to: user.matrices) {
        let start = matrix * matrixRows
        let wanted = (start + user.rows.lowerBound)..<(start + user.rows.upperBound)
        let run = wanted.clamped(to: rows)
        guard !run.isEmpty else { continue }
        if first == nil {
          first =
            (matrix - user.matrices.lowerBound) * user.outputRows(user.rows.count)
            + (run.lowerBound - wanted.lowerBound) / user.height
        }
        let relative = (run.lowerBound - rows.lowerBound)..<(run.upperBound - rows.lowerBound)
        if let last = runs.last, last.upperBound == relative.lowerBound {
          runs[runs.count - 1] = last.lowerBound..<relative.upperBound
        } else {
          runs.append(relative)
        }
      }
      guard let first else { return nil }
      return WorkUnit.Delivery(
        target: user.target, runs: runs, columns: user.columns, offset: user.offset + first * user.rowBytes,
        byteCount: runs.reduce(0) { $0 + user.outputRows($1.count) } * user.rowBytes)
    }
  }
}
