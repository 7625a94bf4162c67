internal import Checkpoint
internal import ModelWeights
internal import Quantization
internal import TensorFormats

/// Some elements of one pair.
struct ElementRange: Sendable {
  let pair: Int
  /// Row-major in the box that the pair has in common.
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
      let count = comparisons[pair].elementCount
      if start < count {
        let end = min(count, start + comparisons[pair].unitLength)
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

  fileprivate var a = PairOperand.Scratch(elementCount: elementCount)
  fileprivate var b = PairOperand.Scratch(elementCount: elementCount)

  /// To be called before another pair is read.
  fileprivate mutating func forget() {
    a.forget()
    b.forget()
  }
}

/// How one pair of tensors is compared.
struct PairComparison: Sendable {
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

  let a: PairOperand
  let b: PairOperand
  private let weight: String?
  /// What is compared; nothing if the shapes differ.
  private let box: TensorBox?
  private let runLength: Int
  /// The elements that are compared at a time: whole rows where rows are read.
  let unitLength: Int
  private let method: Method
  /// Whether equal bytes are equal values.
  private let sameEncoding: Bool

  /// Prepares a comparison; reads nothing.
  init(_ pair: TensorPairing.Pair, _ weightsA: ModelWeights, _ weightsB: ModelWeights) {
    a = PairOperand(pair.a, in: weightsA)
    b = PairOperand(pair.b, in: weightsB)
    weight = pair.weight
    box = pair.box
    let run = pair.box?.runLength(in: [pair.a.box, pair.b.box]) ?? 0
    if let extent = pair.box?.extent, a.isScaled || b.isScaled {
      // A run of several axes is a multiple of a matrix.
      runLength = min(run, extent.suffix(2).reduce(1, *))
      let row = max(1, extent.last ?? 1)
      unitLength = max(1, PairScratch.elementCount / row) * row
    } else {
      runLength = run
      unitLength = PairScratch.elementCount
    }
    let types = [a.stored.codes.elementType, b.stored.codes.elementType]
    sameEncoding = a.isStored(like: b)
    if pair.box == nil {
      method = .none(.shape, nil)
    } else if a.isInteger, b.isInteger {
      method = .integer
    } else if types.contains(.f64), a.isReal, b.isReal {
      method = .double
    } else if a.isReal, b.isReal {
      method = .real
    } else if sameEncoding {
      method = .bytes
    } else {
      method = .none(.notCompared, "values of \(types[0]) and \(types[1]) cannot be compared")
    }
  }

  /// The elements that are read; none if there is nothing to compare.
  var elementCount: Int { if case .none = method { 0 } else { box?.elementCount ?? 0 } }

  /// The bytes of both sides of so many elements.
  func byteCount(of elements: Int) -> Int { a.byteCount(of: elements) + b.byteCount(of: elements) }

  /// Reads and compares some elements.
  func compare(_ elements: Range<Int>, using scratch: inout PairScratch) throws(CheckpointError)
    -> ElementDifferences
  {
    var result = ElementDifferences()
    guard let box else { return result }
    scratch.forget()
    var start = elements.lowerBound
    while start < elements.upperBound {
      // To the end of the run, beyond which one of the tensors has something else.
      let end = min(elements.upperBound, (start / runLength + 1) * runLength)
      try a.read(box.position(of: start, in: a.box), end - start, into: &scratch.a)
      try b.read(box.position(of: start, in: b.box), end - start, into: &scratch.b)
      result.merge(try compare(start, end - start, &scratch.a, &scratch.b))
      start = end
    }
    return result
  }

  private func compare(
    _ start: Int, _ count: Int, _ left: inout PairOperand.Scratch, _ right: inout PairOperand.Scratch
  ) throws(CheckpointError) -> ElementDifferences {
    var result = ElementDifferences()
    let sameBytes = sameEncoding && left.hasSameBytes(as: right)
    guard !sameBytes else {
      result.finite = count
      return result
    }
    switch method {
    case .real:
      try a.decode(&left)
      try b.decode(&right)
      result.compare(left.wanted, right.wanted, from: start)
    case .double:
      let doublesA = try a.doubles(&left)
      let doublesB = try b.doubles(&right)
      result.compare(doublesA.span, doublesB.span, from: start)
    case .integer:
      result.compare(a.integers(left), b.integers(right), from: start)
    case .bytes, .none: break
    }
    // Blocks and rows that reach beyond the common elements may differ there.
    result.bytesDiffer = !sameEncoding || left.isWhole && right.isWhole || result.count > 0
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
      note = "bytes differ; the values of \(a.stored.codes.elementType) cannot be compared"
    default:
      outcome =
        differences.count > 0
        ? .different : differences.bytesDiffer || !sameEncoding ? .sameValues : .identical
      if outcome != .identical, !sameEncoding { note = decodingNote }
    }
    var errors = differences.count > 0 ? differences.errors : nil
    if let box, let first = errors?.firstIndex {
      errors?.firstIndex = box.position(of: first, in: TensorBox(wholeOf: box.shape))
    }
    let slice = box.flatMap {
      $0.isWhole ? nil : DifferenceReport.Slice(origin: $0.origin, extent: $0.extent)
    }
    return DifferenceReport.Pair(
      a: side(a), b: side(b), weight: weight, slice: slice, outcome: outcome, errors: errors, note: note)
  }

  /// How the values of schemes were compared.
  private var decodingNote: String? {
    let schemes = [a, b].compactMap(\.stored.scheme?.scheme)
    guard let first = schemes.first else {
      return a.isScaled || b.isScaled ? "compared after multiplication with the scales of matrices" : nil
    }
    if schemes.allSatisfy({ if case .fp8Block = $0 { true } else { false } }) {
      return "compared after multiplication with the block scales"
    }
    let all = schemes.dropFirst().reduce("\(first)") { $1 == first ? $0 : "\($0) and \($1)" }
    return "compared after decoding \(all)"
  }

  private func side(_ operand: PairOperand) -> DifferenceReport.Side {
    DifferenceReport.Side(
      name: operand.stored.codes.name, dtype: operand.stored.codes.elementType,
      shape: operand.stored.codes.shape, file: operand.file)
  }
}
