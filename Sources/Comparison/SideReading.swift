internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import StoredWeights
internal import Quantization
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

// Everything that comparisons read weights with: nothing else in this module decodes.

/// Reads the rows of one matrix of a box, from any number of pieces, as F32.
struct MatrixRowReader: Sendable {
  private let reader: MatrixReader
  /// Where the box begins in what ``reader`` reads.
  private let firstRow: Int
  private let firstColumn: Int
  private let columns: Int
  private let offset: Float

  /// What one thread reuses.
  struct Scratch {
    /// The rows that were read last, at the beginning.
    var values: [Float] = []
    fileprivate var reader = MatrixReader.Scratch()
  }

  /// - Parameters:
  ///   - box: A box that the side holds.
  ///   - matrix: The index of the matrix in the box.
  /// - Throws: What reading scales throws.
  init(_ side: WeightSide, _ box: TensorBox, matrix: Int) throws(CheckpointError) {
    let number = box.stack.position(of: matrix, in: side.box.stack)
    reader =
      side.isWhole
      ? try MatrixReader(side.weights, side.weight, matrix: number)
      : try MatrixReader(side.weights, side.weight, piece: side.piece, matrix: number)
    firstRow = box.top - side.box.top
    firstColumn = box.left - side.box.left
    columns = box.extent.last ?? 1
    offset = side.offset
  }

  /// Reads rows of the box into the beginning of ``Scratch/values``.
  func read(_ rows: Range<Int>, _ scratch: inout Scratch) throws(CheckpointError) {
    let count = rows.count * reader.columns
    if scratch.values.count < count { scratch.values = [Float](repeating: 0, count: count) }
    // Taken out while in use, so that the scratch is borrowed only once.
    var values: [Float] = []
    swap(&values, &scratch.values)
    defer { swap(&values, &scratch.values) }
    var all = values.mutableSpan
    var target = all._mutatingExtracting(..<count)
    let wanted = rows.lowerBound + firstRow..<rows.upperBound + firstRow
    try reader.read(wanted, into: &target, &scratch.reader)
    if offset != 0 { for index in target.indices { target[index] += offset } }
    guard reader.columns != columns else { return }
    // Rows move towards the front, so nothing is overwritten before it is moved.
    for row in 0..<rows.count {
      let (from, to) = (row * reader.columns + firstColumn, row * columns)
      for column in 0..<columns { target[to + column] = target[from + column] }
    }
  }
}

extension TensorBox {
  /// The first row and column of each of its matrices.
  var top: Int { origin.count < 2 ? 0 : origin[origin.count - 2] }
  var left: Int { origin.last ?? 0 }

  /// Its matrices as elements of a smaller tensor.
  var stack: TensorBox {
    let shape = TensorShape(Array(shape.dimensions.dropLast(2)))
    return TensorBox(shape, origin: Array(origin.dropLast(2)), extent: Array(extent.dropLast(2)))
      ?? TensorBox(wholeOf: shape)
  }
}

/// Reads runs of elements of one piece as stored, and decodes them if necessary.
///
/// A tensor of plain values is read in blocks. Codes with scales are read in whole rows, of one matrix at a time.
struct ElementReader: Sendable {
  private let side: WeightSide
  private let type: ElementType
  /// Turns bytes into F32; `nil` for types that are not real numbers.
  private let codec: BlockCodec?

  /// Some elements and the blocks or rows around them.
  struct Scratch {
    fileprivate var bytes: [UInt8] = []
    fileprivate var byteCount = 0
    /// The rows of codes, instead of bytes.
    fileprivate var rows = StoredRows()
    /// The matrix whose rows were read last.
    fileprivate var matrix: (index: Int, stored: StoredMatrix)?
    fileprivate var values: [Float] = []
    /// The elements that were read: whole blocks or rows.
    fileprivate var readCount = 0
    /// The offset of the requested elements from the first one read.
    fileprivate var offset = 0
    fileprivate var count = 0

    /// Call this before another reader uses it.
    mutating func forget() { matrix = nil }

    /// Whether only the requested elements were read.
    var isWhole: Bool { offset == 0 && count == readCount }

    /// The decoded elements.
    var wanted: Span<Float> {
      @_lifetime(borrow self)
      get { values.span.extracting(offset..<(offset + count)) }
    }

    /// Whether the same blocks or rows were read, byte by byte, of sides that are stored alike.
    func hasSameBytes(as other: Scratch) -> Bool {
      guard offset == other.offset, readCount == other.readCount else { return false }
      guard matrix == nil else { return rows.hasSameBytes(as: other.rows) }
      guard byteCount == other.byteCount else { return false }
      return unsafe bytes.withUnsafeBufferPointer { mine in
        unsafe other.bytes.withUnsafeBufferPointer { its in
          guard let mine = mine.baseAddress, let its = its.baseAddress else { return byteCount == 0 }
          return unsafe memcmp(mine, its, byteCount) == 0
        }
      }
    }
  }

  /// Prepares a side that is one piece; reads nothing.
  init(_ side: WeightSide) {
    self.side = side
    type = side.stored.codes.elementType
    codec = BlockCodec.codec(for: type)
  }

  /// Whether values are real numbers, or integers.
  var isReal: Bool { side.isScaled || codec != nil }
  var isInteger: Bool { !side.isScaled && type.isInteger }

  /// The bytes of this many elements, rounded up to blocks, with their share of the scales.
  func byteCount(of elements: Int) -> Int {
    guard !side.isScaled else { return side.byteCount(of: elements) }
    return (elements + type.block.elements - 1) / type.block.elements * type.block.bytes
  }

  /// Reads `count` elements from element `start` of its box on, including the rest of their blocks or rows. With
  /// scales, all must be in one matrix.
  func read(_ start: Int, _ count: Int, into scratch: inout Scratch) throws(CheckpointError) {
    scratch.count = count
    guard !side.isScaled else { return try readRows(start, count, into: &scratch) }
    // If several weights are stored as one, they are rows of one matrix.
    let start = side.piece.firstRow * (side.box.extent.last ?? 1) + start
    let (block, file) = (type.block, side.file)
    let first = start / block.elements
    let end = (start + count + block.elements - 1) / block.elements
    scratch.readCount = (end - first) * block.elements
    scratch.offset = start - first * block.elements
    scratch.byteCount = (end - first) * block.bytes
    if scratch.bytes.count < scratch.byteCount {
      scratch.bytes = [UInt8](repeating: 0, count: scratch.byteCount)
    }
    var span = scratch.bytes.mutableSpan
    var all = unsafe span.mutableBytes
    var target = all._mutatingExtracting(..<((end - first) * block.bytes))
    try file.source.read(
      into: &target, at: side.stored.codes.byteRange.lowerBound + first * block.bytes)
    if file.byteOrder == .big { GGUFByteOrder.swapPayload(type, &target) }
  }

  private func readRows(_ start: Int, _ count: Int, into scratch: inout Scratch) throws(CheckpointError) {
    let extent = side.box.extent
    let columns = extent.last ?? 1
    let height = extent.count < 2 ? 1 : extent[extent.count - 2]
    let (matrix, position) = start.quotientAndRemainder(dividingBy: height * columns)
    let rows = position / columns..<(position + count + columns - 1) / columns
    precondition(rows.upperBound <= height, "elements of two matrices")
    scratch.readCount = rows.count * columns
    scratch.offset = position - rows.lowerBound * columns
    if scratch.matrix?.index != matrix {
      scratch.matrix = (
        matrix,
        try StoredMatrix(
          side.stored, in: side.weights.checkpoint, matrix: matrix, firstRow: side.piece.firstRow)
      )
    }
    try scratch.matrix?.stored.read(rows, into: &scratch.rows)
  }

  /// Decodes what was read, scales applied.
  func decode(_ scratch: inout Scratch) throws(CheckpointError) {
    let count = scratch.readCount
    // Taken out while in use, so that the scratch is borrowed only once.
    var values: [Float] = []
    swap(&values, &scratch.values)
    defer { swap(&values, &scratch.values) }
    if values.count < count { values = [Float](repeating: 0, count: count) }
    var all = values.mutableSpan
    var target = all._mutatingExtracting(..<count)
    if let matrix = scratch.matrix {
      try matrix.stored.decode(scratch.rows, into: &target)
    } else {
      try codec?.decode(
        unsafe scratch.bytes.span.bytes.extracting(..<scratch.byteCount), into: &target)
    }
    if side.offset != 0 { for index in target.indices { target[index] += side.offset } }
  }

  /// The elements as F64.
  func doubles(_ scratch: inout Scratch) throws(CheckpointError) -> [Double] {
    if type == .f64 {
      // One element a block.
      let bytes = unsafe scratch.bytes.span.bytes
      return (0..<scratch.count).map {
        unsafe bytes.unsafeLoadUnaligned(fromByteOffset: $0 * 8, as: Double.self)
      }
    }
    try decode(&scratch)
    let wanted = scratch.wanted
    return wanted.indices.map { Double(wanted[$0]) }
  }

  /// The elements as exact integers; empty for other types.
  func integers(_ scratch: Scratch) -> [Int128] {
    let bytes = unsafe scratch.bytes.span.bytes.extracting(..<scratch.byteCount)
    func load<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type) -> [Int128] {
      stride(from: 0, to: bytes.byteCount, by: MemoryLayout<T>.size).map {
        Int128(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: $0, as: T.self))
      }
    }
    switch type {
    case .bool, .u8: return load(UInt8.self)
    case .i8: return load(Int8.self)
    case .u16: return load(UInt16.self)
    case .i16: return load(Int16.self)
    case .u32: return load(UInt32.self)
    case .i32: return load(Int32.self)
    case .u64: return load(UInt64.self)
    case .i64: return load(Int64.self)
    default: return []
    }
  }
}
