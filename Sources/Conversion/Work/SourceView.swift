internal import Checkpoint
internal import StoredWeights
internal import Quantization
internal import ShardPlanning
internal import TensorFormats

/// How one source tensor is divided into rows, and which of them go into which output tensors.
///
/// A tensor is treated as a stack of matrices: `[48, 5120, 7168]` is 48 matrices of 5120 rows. If rows do not
/// matter, because nothing is sliced and every element is converted independently (or not at all), a row is one
/// block of the element type, so that long vectors and tiny kernels alike are divided into units of the same size.
struct SourceView: Sendable {
  /// The most elements of a unit, unless a single row (or band of tiles) has more: 2 Mi elements are 4 MiB of BF16,
  /// enough to keep a disk busy and small enough to spread one tensor over all cores.
  static let unitElements = 1 << 21

  /// The source tensor's name.
  let tensor: String
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
  /// The scales of the codes or blocks; `nil` for plain values.
  let scaling: ShardPlan.Scaling?
  /// Whether a row is a row of the tensor, or just a block of it.
  let keepsRows: Bool
  /// Whether the tensor is a stack of matrices, even of one.
  let isStack: Bool
  /// Whether rows are decoded to F32 first: they have scales, or a scheme is made from blocks.
  let decodesFirst: Bool
  /// How rows become values, and which scales they need; `nil` if not needed.
  let decoder: RowDecoder?
  /// The number of bytes that go to each output file.
  let outputBytes: [Int: Int]

  private let rowsPerUnit: Int
  /// Whether a unit stays within one matrix, as tiles of scales and per-expert importance require.
  private let confined: Bool
  private let destinations: [Destination]

  /// An output tensor that takes a box of this one.
  struct Consumer {
    /// The index of the output tensor, and of its file.
    let target: Int
    let outputFile: Int
    let tensor: ShardPlan.Tensor
    /// The box: one of the tensor's sources.
    let slice: ShardPlan.Slice
    /// The rows of the sources before this one.
    let rowsBefore: Int
  }

  private struct Destination: Sendable {
    let target: Int
    let matrices: Range<Int>
    let rows: Range<Int>
    let columns: Range<Int>
    let offset: Int
    /// The bytes of one row of the output.
    let rowBytes: Int
    /// How many source rows one output row stands for: 1, for scales of tiles their height, and for per-matrix values
    /// the height of the box.
    let height: Int

    /// How many output rows begin before that row of the box.
    func outputRows(before row: Int) -> Int { (row + height - 1) / height }
  }

  /// - Throws: `.unsupported` for unsupported scales and types.
  /// - Precondition: All consumers name the same source, and there is at least one.
  init(_ consumers: [Consumer], _ checkpoint: Checkpoint) throws(CheckpointError) {
    let source = consumers[0].slice
    let type = source.elementType
    tensor = source.tensor
    elementType = type
    scaling = source.scaling
    let scheme = source.scaling?.scheme?.scheme
    // Rows of ordinary length are kept if values are converted, so that errors can name the row.
    let oddRows = !(32...Self.unitElements).contains(source.shape.columns)
    let indifferent = consumers.allSatisfy { consumer in
      let operation = consumer.tensor.operation
      let copied = operation == .copy
      let elementwise =
        type.block.elements == 1 && consumer.tensor.elementType.block.elements == 1 && oddRows
        && operation.part == nil
      return consumer.slice.isWhole && source.scaling == nil && (copied || elementwise)
    }
    keepsRows = !indifferent
    let dimensions = source.shape.dimensions
    isStack = dimensions.count > 2
    columns = indifferent ? type.block.elements : source.shape.columns
    rowBytes = type.block.byteCount(ofElements: columns / (scheme?.geometry.codesPerElement ?? 1)) ?? 0
    rowCount = source.shape.elementCount / max(columns, 1)
    matrixRows = indifferent || dimensions.count < 2 ? rowCount : dimensions[dimensions.count - 2]

    let encodes = consumers.map(\.tensor.operation).filter(\.decodes)
    let takesRows = encodes.contains { $0.part != .matrixScales }
    decodesFirst =
      takesRows
      && (source.scaling != nil
        || (type.block.elements > 1 && encodes.contains { $0.scheme != nil }))
    // Copying codes requires no decoder.
    let carriesScales = consumers.contains {
      switch $0.tensor.operation {
      case .pack, .unpack, .carry: true
      case .copy, .convert, .encode, .shape: false
      }
    }
    decoder =
      decodesFirst || (carriesScales && source.scaling != nil)
      ? try RowDecoder(source.stored, in: checkpoint) : nil
    outputBytes = consumers.reduce(into: [:]) { sums, consumer in
      sums[consumer.outputFile, default: 0] += consumer.tensor.bytes / consumer.tensor.sources.count
    }
    confined =
      source.scaling != nil || consumers.contains { $0.tensor.operation.scheme != nil }
      || (isStack && consumers.contains { $0.tensor.operation.importance != nil })
    let wanted = max(1, Self.unitElements / max(columns, 1))
    // Tiles are encoded whole.
    let band = encodes.contains { $0.scheme?.scheme == .fp8Tiles } ? BlockFP8.side : 1
    rowsPerUnit = max(1, wanted / band) * band

    let (stackRows, rowColumns, stack) = (matrixRows, columns, matrixRows == 0 ? 0 : rowCount / matrixRows)
    destinations = consumers.map { consumer in
      let (box, tensor) = (consumer.slice, consumer.tensor)
      let rank = box.extent.count
      if indifferent || rank == 0 {
        return Destination(
          target: consumer.target, matrices: 0..<stack, rows: 0..<stackRows, columns: 0..<rowColumns,
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
      let rowBytes = tensor.rowBytes(ofColumns: columns.count)
      let height = tensor.height(ofBox: rows.count)
      return Destination(
        target: consumer.target, matrices: matrices, rows: rows, columns: columns,
        offset: tensor.offset + (consumer.rowsBefore + height - 1) / height * rowBytes, rowBytes: rowBytes,
        height: height)
    }
  }

  /// The source tensor's size.
  var byteCount: Int { rowCount * rowBytes }

  var unitCount: Int {
    guard rowCount > 0 else { return 0 }
    return confined ? rowCount / matrixRows * unitsPerMatrix : (rowCount + rowsPerUnit - 1) / rowsPerUnit
  }

  /// The units of a matrix, where they stay within one; `nil` elsewhere.
  var confinedUnitsPerMatrix: Int? { confined ? unitsPerMatrix : nil }

  private var unitsPerMatrix: Int { (matrixRows + rowsPerUnit - 1) / rowsPerUnit }

  func rows(ofUnit index: Int) -> Range<Int> {
    guard confined else { return index * rowsPerUnit..<min((index + 1) * rowsPerUnit, rowCount) }
    let (matrix, piece) = index.quotientAndRemainder(dividingBy: unitsPerMatrix)
    let start = matrix * matrixRows
    return start + piece * rowsPerUnit..<start + min((piece + 1) * rowsPerUnit, matrixRows)
  }

  /// The deliveries of a run of rows. The rows that one output tensor takes are contiguous there.
  func deliveries(of rows: Range<Int>) -> [WorkUnit.Delivery] {
    destinations.compactMap { destination in
      var runs: [Range<Int>] = []
      var first: Int?
      var count = 0
      let matrices = (rows.lowerBound / matrixRows)..<((rows.upperBound - 1) / matrixRows + 1)
      for matrix in matrices.clamped(to: destination.matrices) {
        let top = matrix * matrixRows
        let wanted = (top + destination.rows.lowerBound)..<(top + destination.rows.upperBound)
        let run = wanted.clamped(to: rows)
        guard !run.isEmpty else { continue }
        let (start, end) = (run.lowerBound - wanted.lowerBound, run.upperBound - wanted.lowerBound)
        let lines = destination.outputRows(before: start)..<destination.outputRows(before: end)
        guard !lines.isEmpty else { continue }
        if first == nil {
          first =
            (matrix - destination.matrices.lowerBound)
            * destination.outputRows(before: destination.rows.count) + lines.lowerBound
        }
        count += lines.count
        let relative = (run.lowerBound - rows.lowerBound)..<(run.upperBound - rows.lowerBound)
        if let last = runs.last, last.upperBound == relative.lowerBound {
          runs[runs.count - 1] = last.lowerBound..<relative.upperBound
        } else {
          runs.append(relative)
        }
      }
      guard let first else { return nil }
      return WorkUnit.Delivery(
        target: destination.target, runs: runs, firstRow: destination.rows.lowerBound,
        height: destination.height,
        columns: destination.columns, offset: destination.offset + first * destination.rowBytes,
        byteCount: count * destination.rowBytes)
    }
  }
}

extension ShardPlan.Tensor {
  /// The bytes of one of its rows, if the row of the source's box has `count` elements.
  fileprivate func rowBytes(ofColumns count: Int) -> Int {
    let geometry = operation.scheme?.scheme.geometry
    let elements =
      switch operation.part {
      case nil: count
      case .codes: count / (geometry?.codesPerElement ?? 1)
      case .scales: geometry?.scaleColumns(of: count) ?? 1
      case .matrixScales: 1
      // Rows and columns.
      case .shape: 2
      }
    return elementType.block.byteCount(ofElements: elements) ?? 0
  }

  /// How many source rows one of its rows stands for, if a matrix of the box has `rows` rows.
  fileprivate func height(ofBox rows: Int) -> Int {
    switch operation.part {
    case nil, .codes: 1
    case .scales: operation.scheme?.scheme.geometry.scaleHeight ?? 1
    case .matrixScales, .shape: max(1, rows)
    }
  }
}
