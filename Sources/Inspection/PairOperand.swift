internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import ModelWeights
internal import TensorFormats

/// One side of a pair: how its elements are read and what they mean.
struct PairOperand: Sendable {
  let tensor: Checkpoint.Tensor
  /// Which elements of the model's tensor it holds.
  let box: TensorBox
  /// The name of the file.
  let file: String
  private let source: any ByteSource
  private let order: GGUFByteOrder
  private let values: TensorValues
  private let scales: BlockScales?

  /// Some elements and the blocks around them.
  struct Scratch {
    private(set) var bytes: [UInt8] = []
    fileprivate var values: [Float]
    /// The elements of the blocks that were read, row-major in the tensor.
    fileprivate var blocks = 0..<0
    fileprivate var byteCount = 0
    /// The elements that were asked for, from the start of the blocks.
    fileprivate var offset = 0
    fileprivate var count = 0

    /// Room for so many elements that begin and end anywhere.
    init(elementCount: Int) {
      values = [Float](repeating: 0, count: elementCount + 2 * Self.largestBlock)
    }

    /// The elements of the largest block of any type.
    private static let largestBlock = 256

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
    var isWholeBlocks: Bool { offset == 0 && count == blocks.count }

    /// The decoded elements.
    var wanted: Span<Float> {
      @_lifetime(borrow self)
      get { values.span.extracting(offset..<(offset + count)) }
    }

    /// Whether the same blocks were read, byte by byte.
    func hasSameBytes(as other: Scratch) -> Bool {
      guard offset == other.offset, blocks.count == other.blocks.count, byteCount == other.byteCount else {
        return false
      }
      let left = unsafe bytes.span.bytes.extracting(..<byteCount)
      return unsafe left.isEqual(to: other.bytes.span.bytes.extracting(..<byteCount))
    }
  }

  /// Prepares a side; reads the scales of a block-FP8 weight, and nothing else.
  init(_ piece: CheckpointPieces.Piece, in pieces: CheckpointPieces) throws(CheckpointError) {
    tensor = piece.tensor
    box = piece.box
    let file = pieces.checkpoint.files[tensor.file]
    self.file = file.name
    source = file.source
    order = file.byteOrder
    values = TensorValues(tensor.elementType)
    scales = try pieces.scales(of: tensor)
  }

  var isReal: Bool { values.isReal }
  var isScaled: Bool { scales != nil }

  /// The bytes of so many elements, blocks rounded up.
  func byteCount(of elements: Int) -> Int {
    let block = tensor.elementType.block
    return (elements + block.elements - 1) / block.elements * block.bytes
  }

  /// Reads `count` elements from `start` on, and what else their blocks hold.
  func read(_ start: Int, _ count: Int, into scratch: inout Scratch) throws(CheckpointError) {
    let block = tensor.elementType.block
    let first = start / block.elements
    let end = (start + count + block.elements - 1) / block.elements
    scratch.blocks = (first * block.elements)..<(end * block.elements)
    scratch.offset = start - scratch.blocks.lowerBound
    scratch.count = count
    let (type, order, source) = (tensor.elementType, order, source)
    let position = tensor.byteRange.lowerBound + first * block.bytes
    try scratch.withRoom(for: (end - first) * block.bytes) { target throws(CheckpointError) in
      try source.read(into: &target, at: position)
      TensorValues.makeLittleEndian(type, &target, from: order)
    }
  }

  /// Decodes what was read, scales applied.
  func decode(_ scratch: inout Scratch) throws(CheckpointError) {
    let (bytes, byteCount, blocks) = (scratch.bytes, scratch.byteCount, scratch.blocks)
    var all = scratch.values.mutableSpan
    var target = all._mutatingExtracting(..<blocks.count)
    try values.decode(unsafe bytes.span.bytes.extracting(..<byteCount), into: &target)
    scales?.apply(to: &target, from: blocks.lowerBound)
  }

  /// What was read as F64.
  func doubles(_ scratch: inout Scratch) throws(CheckpointError) -> [Double] {
    if tensor.elementType == .f64 {
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
