internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import ModelWeights
internal import TensorFormats

/// One side of a pair: how its elements are read and what they mean.
///
/// A tensor that holds its values is read in its blocks. Codes with scales of their own are read in whole rows, of one
/// matrix at a time.
struct PairOperand: Sendable {
  /// How it is stored.
  let stored: StoredWeight
  /// Which elements of the model's tensor it holds.
  let box: TensorBox
  /// The name of the file.
  let file: String
  private let firstRow: Int
  private let checkpoint: Checkpoint
  private let source: any ByteSource
  private let order: GGUFByteOrder
  private let values: TensorValues

  /// Some elements and the blocks or rows around them.
  struct Scratch {
    fileprivate var bytes: [UInt8] = []
    fileprivate var byteCount = 0
    /// The rows of codes, instead of bytes.
    fileprivate var rows = StoredRows()
    /// The matrix whose rows were read last.
    fileprivate var matrix: (index: Int, stored: StoredMatrix)?
    fileprivate var values: [Float]
    /// The elements that were read: whole blocks or rows.
    fileprivate var readCount = 0
    /// The elements that were asked for, from the first that was read.
    fileprivate var offset = 0
    fileprivate var count = 0

    /// Room for so many elements that begin and end anywhere.
    init(elementCount: Int) {
      values = [Float](repeating: 0, count: elementCount + 2 * Self.largestBlock)
    }

    /// The elements of the largest block of any type.
    private static let largestBlock = 256

    /// To be called before another operand reads.
    mutating func forget() { matrix = nil }

    fileprivate mutating func withRoom(
      for count: Int, _ body: (inout MutableRawSpan) throws(CheckpointError) -> Void
    ) throws(CheckpointError) {
      byteCount = count
      if bytes.count < count { bytes = [UInt8](repeating: 0, count: count) }
      var span = bytes.mutableSpan
      var all = unsafe span.mutableBytes
      var target = all._mutatingExtracting(..<count)
      try body(&target)
    }

    /// Whether nothing but what was asked for was read.
    var isWhole: Bool { offset == 0 && count == readCount }

    /// The decoded elements.
    var wanted: Span<Float> {
      @_lifetime(borrow self)
      get { values.span.extracting(offset..<(offset + count)) }
    }

    /// Whether the same blocks or rows were read, byte by byte, of operands that are stored alike.
    func hasSameBytes(as other: Scratch) -> Bool {
      guard offset == other.offset, readCount == other.readCount else { return false }
      guard matrix == nil else { return rows.hasSameBytes(as: other.rows) }
      guard byteCount == other.byteCount else { return false }
      let left = unsafe bytes.span.bytes.extracting(..<byteCount)
      return unsafe left.isEqual(to: other.bytes.span.bytes.extracting(..<byteCount))
    }
  }

  /// Prepares a side; reads nothing.
  init(_ piece: ModelWeights.Piece, in weights: ModelWeights) {
    stored = piece.stored
    box = piece.box
    firstRow = piece.firstRow
    checkpoint = weights.checkpoint
    let file = checkpoint.files[stored.codes.file]
    self.file = file.name
    source = file.source
    order = file.byteOrder
    values = TensorValues(stored.codes.elementType)
  }

  /// Whether the values are codes with scales in tensors of their own.
  var isScaled: Bool { stored.components.count > 1 }
  var isReal: Bool { isScaled || values.isReal }
  var isInteger: Bool { !isScaled && stored.codes.elementType.isInteger }

  /// Whether equal bytes are equal values.
  func isStored(like other: PairOperand) -> Bool {
    stored.scheme == other.stored.scheme
      && stored.components.map(\.elementType) == other.stored.components.map(\.elementType)
  }

  /// The bytes of so many elements, blocks rounded up, and their share of the scales.
  func byteCount(of elements: Int) -> Int {
    guard isScaled else {
      let block = stored.codes.elementType.block
      return (elements + block.elements - 1) / block.elements * block.bytes
    }
    return Int(Double(elements) / Double(max(1, stored.shape.elementCount)) * Double(stored.byteCount))
  }

  private var columns: Int { box.extent.last ?? 1 }

  /// Reads `count` elements from element `start` of its box on, and what else their blocks or rows hold. Of codes with
  /// scales all must be of one matrix.
  func read(_ start: Int, _ count: Int, into scratch: inout Scratch) throws(CheckpointError) {
    scratch.count = count
    guard !isScaled else { return try readRows(start, count, into: &scratch) }
    // Where several weights are stored as one, they are rows of one matrix.
    let start = firstRow * columns + start
    let block = stored.codes.elementType.block
    let first = start / block.elements
    let end = (start + count + block.elements - 1) / block.elements
    scratch.readCount = (end - first) * block.elements
    scratch.offset = start - first * block.elements
    let (type, order, source) = (stored.codes.elementType, order, source)
    let position = stored.codes.byteRange.lowerBound + first * block.bytes
    try scratch.withRoom(for: (end - first) * block.bytes) { target throws(CheckpointError) in
      try source.read(into: &target, at: position)
      TensorValues.makeLittleEndian(type, &target, from: order)
    }
  }

  private func readRows(_ start: Int, _ count: Int, into scratch: inout Scratch) throws(CheckpointError) {
    let rank = box.extent.count
    let height = rank < 2 ? 1 : box.extent[rank - 2]
    let (matrix, position) = start.quotientAndRemainder(dividingBy: height * columns)
    let rows = position / columns..<(position + count + columns - 1) / columns
    precondition(rows.upperBound <= height, "elements of two matrices")
    scratch.readCount = rows.count * columns
    scratch.offset = position - rows.lowerBound * columns
    if scratch.matrix?.index != matrix {
      scratch.matrix = (
        matrix, try StoredMatrix(stored, in: checkpoint, matrix: matrix, firstRow: firstRow)
      )
    }
    try scratch.matrix?.stored.read(rows, into: &scratch.rows)
  }

  /// Decodes what was read, scales applied.
  func decode(_ scratch: inout Scratch) throws(CheckpointError) {
    let (bytes, byteCount, readCount) = (scratch.bytes, scratch.byteCount, scratch.readCount)
    let (matrix, rows) = (scratch.matrix, scratch.rows)
    // Rows can be longer than what is compared at a time.
    if scratch.values.count < readCount { scratch.values = [Float](repeating: 0, count: readCount) }
    var all = scratch.values.mutableSpan
    var target = all._mutatingExtracting(..<readCount)
    if let matrix {
      try matrix.stored.decode(rows, into: &target)
    } else {
      try values.decode(unsafe bytes.span.bytes.extracting(..<byteCount), into: &target)
    }
  }

  /// What was read as F64.
  func doubles(_ scratch: inout Scratch) throws(CheckpointError) -> [Double] {
    if stored.codes.elementType == .f64 {
      // One element a block.
      return try values.doubles(
        unsafe scratch.bytes.span.bytes.extracting(..<scratch.byteCount), count: scratch.count)
    }
    try decode(&scratch)
    let wanted = scratch.wanted
    return wanted.indices.map { Double(wanted[$0]) }
  }

  /// What was read as integers.
  func integers(_ scratch: Scratch) -> [Int128] {
    unsafe values.integers(scratch.bytes.span.bytes.extracting(..<scratch.byteCount))
  }
}

extension RawSpan {
  /// Whether both hold the same bytes.
  fileprivate func isEqual(to other: RawSpan) -> Bool {
    guard byteCount == other.byteCount else { return false }
    let whole = byteCount / 8 * 8
    for offset in stride(from: 0, to: whole, by: 8) {
      let left = unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self)
      let right = unsafe other.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self)
      if left != right { return false }
    }
    for offset in whole..<byteCount {
      let left = unsafe unsafeLoad(fromByteOffset: offset, as: UInt8.self)
      let right = unsafe other.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
      if left != right { return false }
    }
    return true
  }
}
