internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import TensorFormats

/// Some elements of one pair.
struct ElementRange: Sendable {
  let pair: Int
  let range: Range<Int>
}

/// Cuts the pairs that need reading into units.
struct ElementRanges: IteratorProtocol, Sendable {
  private let comparisons: [PairComparison]
  private var pair = 0
  private var start = 0

  init(_ comparisons: [PairComparison]) { self.comparisons = comparisons }

  mutating func next() -> ElementRange? {
    while pair < comparisons.count {
      let count = comparisons[pair].readsData ? comparisons[pair].a.tensor.shape.elementCount : 0
      if start < count {
        let end = min(count, start + PairScratch.elementCount)
        defer { start = end }
        return ElementRange(pair: pair, range: start..<end)
      }
      pair += 1
      start = 0
    }
    return nil
  }
}

/// What one thread reuses from unit to unit.
struct PairScratch {
  /// The elements of a unit: a multiple of every block's elements.
  static let elementCount = 1 << 16

  fileprivate var bytesA: [UInt8] = []
  fileprivate var bytesB: [UInt8] = []
  fileprivate var valuesA = [Float](repeating: 0, count: elementCount)
  fileprivate var valuesB = [Float](repeating: 0, count: elementCount)
}

/// How one pair of tensors is compared.
struct PairComparison: Sendable {
  /// One side.
  struct Operand: Sendable {
    let tensor: Checkpoint.Tensor
    fileprivate let source: any ByteSource
    fileprivate let order: GGUFByteOrder
    fileprivate let values: TensorValues
    fileprivate let scales: BlockScales?

    fileprivate init(_ tensor: Checkpoint.Tensor, in checkpoint: Checkpoint) throws(CheckpointError) {
      self.tensor = tensor
      let file = checkpoint.files[tensor.file]
      source = file.source
      order = file.byteOrder
      values = TensorValues(tensor.elementType)
      if let scale = BlockScales.scaleTensor(of: tensor, in: checkpoint) {
        scales = try BlockScales(scale, of: tensor, in: checkpoint)
      } else {
        scales = nil
      }
    }

    fileprivate func byteRange(_ elements: Range<Int>) -> Range<Int> {
      let block = tensor.elementType.block
      // A unit ends at a block's end or at the tensor's, and both are whole blocks.
      return elements.lowerBound / block.elements * block.bytes..<elements.upperBound / block.elements
        * block.bytes
    }

    fileprivate func read(_ elements: Range<Int>, into bytes: inout [UInt8]) throws(CheckpointError) {
      let range = byteRange(elements)
      if bytes.count < range.count { bytes = [UInt8](repeating: 0, count: range.count) }
      var span = bytes.mutableSpan
      var all = unsafe span.mutableBytes
      var target = all._mutatingExtracting(..<range.count)
      try source.read(into: &target, at: tensor.byteRange.lowerBound + range.lowerBound)
      TensorValues.makeLittleEndian(tensor.elementType, &target, from: order)
    }

    fileprivate func decode(_ bytes: RawSpan, _ elements: Range<Int>, into values: inout [Float])
      throws(CheckpointError)
    {
      var all = values.mutableSpan
      var target = all._mutatingExtracting(..<elements.count)
      try self.values.decode(bytes, into: &target)
      scales?.apply(to: &target, from: elements.lowerBound)
    }
  }

  private enum Method: Sendable {
    /// Values as F32, which holds those of every smaller type exactly.
    case real
    /// Values as F64, where one side has it.
    case double
    case integer
    /// Bytes alone.
    case bytes
    /// Not at all, for this reason.
    case none(DifferenceReport.Outcome, String?)
  }

  let a: Operand
  let b: Operand
  private let method: Method
  private let sameType: Bool

  /// Prepares a comparison; reads the scales of block-FP8 weights, and nothing else.
  init(
    _ first: Checkpoint.Tensor, of checkpointA: Checkpoint, _ second: Checkpoint.Tensor,
    of checkpointB: Checkpoint
  )
    throws(CheckpointError)
  {
    a = try Operand(first, in: checkpointA)
    b = try Operand(second, in: checkpointB)
    sameType = first.elementType == second.elementType
    let types = [first.elementType, second.elementType]
    if first.shape != second.shape {
      method = .none(.shape, nil)
    } else if types.allSatisfy(\.isInteger) {
      method = .integer
    } else if types.contains(.f64), a.values.isReal, b.values.isReal {
      method = .double
    } else if a.values.isReal, b.values.isReal {
      method = .real
    } else if sameType {
      method = .bytes
    } else {
      method = .none(.notCompared, "values of \(types[0]) and \(types[1]) cannot be compared")
    }
  }

  /// Whether the pair's bytes are read at all.
  var readsData: Bool { if case .none = method { false } else { true } }

  /// The bytes of both sides of some elements.
  func byteCount(of elements: Range<Int>) -> Int { a.byteRange(elements).count + b.byteRange(elements).count }

  /// Reads and compares some elements.
  func compare(_ elements: Range<Int>, using scratch: inout PairScratch) throws(CheckpointError)
    -> ElementDifferences
  {
    try a.read(elements, into: &scratch.bytesA)
    try b.read(elements, into: &scratch.bytesB)
    return try compare(
      elements, scratch.bytesA, scratch.bytesB, decodingInto: &scratch.valuesA, &scratch.valuesB)
  }

  private func compare(
    _ elements: Range<Int>, _ storedA: [UInt8], _ storedB: [UInt8], decodingInto valuesA: inout [Float],
    _ valuesB: inout [Float]
  ) throws(CheckpointError) -> ElementDifferences {
    var result = ElementDifferences()
    let bytesA = unsafe storedA.span.bytes.extracting(..<a.byteRange(elements).count)
    let bytesB = unsafe storedB.span.bytes.extracting(..<b.byteRange(elements).count)
    // Equal FP8 bytes with unequal scales are no difference of this pair: the scales are a pair of their own.
    result.bytesDiffer = !sameType || !bytesA.isEqual(to: bytesB)
    guard result.bytesDiffer else {
      result.finite = elements.count
      return result
    }
    switch method {
    case .real:
      try a.decode(bytesA, elements, into: &valuesA)
      try b.decode(bytesB, elements, into: &valuesB)
      result.compare(
        valuesA.span.extracting(..<elements.count), valuesB.span.extracting(..<elements.count),
        from: elements.lowerBound)
    case .double:
      let left = try a.values.doubles(bytesA, count: elements.count)
      let right = try b.values.doubles(bytesB, count: elements.count)
      result.compare(left.span, right.span, from: elements.lowerBound)
    case .integer:
      result.compare(a.values.integers(bytesA), b.values.integers(bytesB), from: elements.lowerBound)
    case .bytes, .none: break
    }
    return result
  }

  /// The pair in the report.
  func pair(_ differences: ElementDifferences) -> DifferenceReport.Pair {
    var note: String?
    let outcome: DifferenceReport.Outcome
    switch method {
    case .none(let reason, let text):
      outcome = reason
      note = text
    case .bytes where differences.bytesDiffer:
      outcome = .different
      note = "bytes differ; the values of \(a.tensor.elementType) cannot be compared"
    default:
      outcome =
        differences.count > 0
        ? .different : differences.bytesDiffer || !sameType ? .sameValues : .identical
      if outcome != .identical, (a.scales != nil) != (b.scales != nil) {
        note = "compared after multiplication with the block scales"
      }
    }
    return DifferenceReport.Pair(
      a: side(a), b: side(b), outcome: outcome, errors: differences.count > 0 ? differences.errors : nil,
      note: note)
  }

  private func side(_ operand: Operand) -> DifferenceReport.Side {
    DifferenceReport.Side(
      name: operand.tensor.name, dtype: operand.tensor.elementType, shape: operand.tensor.shape)
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
