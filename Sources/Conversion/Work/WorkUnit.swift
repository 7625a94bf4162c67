internal import ByteStreams
internal import ShardPlanning
internal import TensorFormats

/// One step of a conversion: bytes of one source file, what else is needed to convert them, and where the results go.
struct WorkUnit: Sendable {
  /// Its number in the plan, by which the journal knows it.
  let number: Int
  /// The source's bytes that are read and hashed.
  let source: FileRange
  /// How to interpret them; `nil` if they are only hashed.
  let view: SourceView?
  /// The first row, counted over the whole tensor.
  let firstRow: Int
  /// How many rows the bytes are.
  let rowCount: Int
  /// What goes where.
  let deliveries: [Delivery]
  /// What is read besides the source's bytes.
  let companions: Companions
  /// The matrices whose largest magnitude has to be known before encoding; `nil` for most units.
  let maximum: MatrixMaxima.Key?

  /// The rows of one unit that go into one output tensor.
  struct Delivery: Sendable {
    /// The index of the output tensor among ``WorkList/targets``.
    let target: Int
    /// Which of the unit's rows, as runs counted from its first row.
    let runs: [Range<Int>]
    /// The box's first row in a matrix of the source.
    let firstRow: Int
    /// How many rows of the source one row of the output stands for.
    let height: Int
    /// Which of their elements.
    let columns: Range<Int>
    /// Where the result starts in the output file.
    let offset: Int
    /// Its size.
    let byteCount: Int

    /// The number of source elements that it is made from.
    var elementCount: Int { runs.reduce(0) { $0 + $1.count } * columns.count }
  }

  /// Bytes that are not the unit's own: they are elsewhere, and hashed there.
  struct Companions: Sendable {
    /// The rows of scales that belong to the unit's rows.
    var scales: FileRange?
    /// The scale of the unit's matrix.
    var matrixScale: FileRange?
    /// The scales of all matrices that share one with the unit's in the output; `nil` for one without.
    var groupScales: [FileRange?] = []
  }

  /// Everything that has to be read for it.
  var reads: [FileRange] {
    [source] + [companions.scales, companions.matrixScale].compactMap { $0 }
      + companions.groupScales.compactMap { $0 }
  }

  /// The number of its matrix in the stack. Units of scaled tensors stay within one.
  var matrix: Int { view.map { $0.matrixRows == 0 ? 0 : firstRow / $0.matrixRows } ?? 0 }

  /// Its rows, counted in their matrix.
  var rowsInMatrix: Range<Int> {
    let first = firstRow - matrix * (view?.matrixRows ?? 0)
    return first..<first + rowCount
  }

  /// Roughly the memory that it takes while in progress, in bytes: what is read, F32 if rows are decoded first, and
  /// what is made. Small units count as more, so that thousands of them do not run ahead.
  var footprint: Int {
    let decoded = view.map { $0.decodesFirst ? rowCount * $0.columns * MemoryLayout<Float>.stride : 0 } ?? 0
    let read = reads.reduce(0) { $0 + $1.bytes.count }
    return max(4 << 20, read + decoded + deliveries.reduce(0) { $0 + $1.byteCount })
  }
}
