internal import ByteStreams
internal import Checkpoint
internal import StoredWeights
internal import Quantization
package import TensorFormats

/// Compares a pair by rows, against the error bounds of its formats.
///
/// The first side is the candidate, the second the source that it was made from.
package struct ErrorComparison: PairComparing {
  /// How the two are compared.
  package enum Method: Sendable {
    /// By values, within this bound.
    case values(ErrorBound)
    /// By bytes: types that hold no real numbers, or unsupported codes.
    case bytes
  }

  package let pair: WeightPair
  package let method: Method

  /// - Parameters:
  ///   - isCalibrated: Whether the candidate's codes were calibrated.
  ///   - areValues: Whether the stored data has values, and is not unsupported codes.
  /// - Returns: `nil` if there is no way to compare the two: without a decoder only whole tensors of the same type can
  ///   be compared.
  package init?(_ pair: WeightPair, isCalibrated: Bool = false, areValues: (StoredPrecision) -> Bool) {
    self.pair = pair
    let mine = StoredPrecision(pair.a.stored)
    let pieces = pair.b.pieces
    let others = pieces.map { StoredPrecision($0.stored) }
    if ([mine] + others).allSatisfy({ $0.isReal && areValues($0) }) {
      let bound = ErrorBound(mine, of: StoredPrecision(pair.b.stored))
      let isChosen = isCalibrated && (mine.scheme != nil || BlockGrid(mine.elementType) != nil)
      method = .values(isChosen ? bound.calibrated() : bound)
    } else if others == [mine], pieces[0].box == pair.box,
      pieces[0].stored.codes.byteRange.count == pair.a.stored.codes.byteRange.count
    {
      method = .bytes
    } else {
      return nil
    }
  }

  package var name: String { pair.name }

  // MARK: Units

  /// Elements, or bytes, of a unit: two buffers of F32 of this length are small enough for a core's cache.
  private static let unitLength = 1 << 18

  package var cut: UnitCut {
    guard case .values(let bound) = method else {
      return UnitCut(count: pair.a.stored.codes.byteRange.count, unit: Self.unitLength)
    }
    let matrix = pair.rows * pair.columns
    var height = max(1, Self.unitLength / max(1, pair.columns))
    if case .tile(let rows, _) = bound.reach { height = (height + rows - 1) / rows * rows }
    return UnitCut(count: pair.matrixCount * matrix, stretch: matrix, unit: height * pair.columns)
  }

  /// The approximate bytes that comparing the pair reads.
  package var byteCount: Int {
    pair.a.byteCount(of: pair.box.elementCount) + pair.b.byteCount(of: pair.box.elementCount)
  }

  package func byteCount(of unit: Range<Int>) -> Int {
    // Over all units, the shares add up to the whole.
    func upTo(_ element: Int) -> Int {
      Int(Double(byteCount) * (Double(element) / Double(max(1, cut.count))))
    }
    return upTo(unit.upperBound) - upTo(unit.lowerBound)
  }

  // MARK: Comparing

  /// One thread's buffers, and its current matrix.
  package struct Scratch {
    fileprivate var matrix: (pair: Int, number: Int, rows: MatrixPair)?
    fileprivate var candidate = MatrixRowReader.Scratch()
    fileprivate var source = MatrixRowReader.Scratch()
  }

  package static func makeScratch() -> Scratch { Scratch() }

  package func compare(
    _ unit: Range<Int>, pair number: Int, _ scratch: inout Scratch
  ) throws(CheckpointError) -> TensorErrors {
    guard case .values(let bound) = method else { return try compareBytes(unit) }
    let columns = pair.columns
    let inner = unit.lowerBound / (pair.rows * columns)
    let first = unit.lowerBound / columns - inner * pair.rows
    let height = unit.count / columns
    let matrix: MatrixPair
    if let known = scratch.matrix, known.pair == number, known.number == inner {
      matrix = known.rows
    } else {
      matrix = try MatrixPair(pair, matrix: inner)
      scratch.matrix = (number, inner, matrix)
    }
    try matrix.candidate.read(first..<first + height, &scratch.candidate)
    try matrix.source.read(first..<first + height, &scratch.source)
    let origin = TensorErrors.Place(matrix: matrix.number, row: pair.box.top + first, column: pair.box.left)
    var errors = TensorErrors()
    let count = unit.count
    if FiniteCheck.firstNonFinite(scratch.source.values.span.extracting(..<count)) != nil
      || FiniteCheck.firstNonFinite(scratch.candidate.values.span.extracting(..<count)) != nil
    {
      setAsideNonFinite(count, at: origin, &scratch, &errors)
    }
    let judge = RowJudge(bound: bound, floor: matrix.floor, isStack: pair.box.shape.rank == 3)
    var band = height
    if case .tile(let rows, _) = bound.reach { band = rows }
    let (source, candidate) = (scratch.source.values.span, scratch.candidate.values.span)
    for top in stride(from: 0, to: height, by: band) {
      let end = min(top + band, height)
      let tiles = judge.tiles(source.extracting(top * columns..<end * columns), columns: columns)
      for row in top..<end {
        let range = row * columns..<(row + 1) * columns
        var place = origin
        place.row += row
        try judge.judge(
          source.extracting(range), candidate.extracting(range), tiles, at: place, into: &errors)
      }
    }
    return errors
  }

  /// Counts non-finite elements, and replaces them by zeros on both sides.
  private func setAsideNonFinite(
    _ count: Int, at origin: TensorErrors.Place, _ scratch: inout Scratch, _ errors: inout TensorErrors
  ) {
    for index in 0..<count {
      let (x, y) = (scratch.source.values[index], scratch.candidate.values[index])
      guard !x.isFinite || !y.isFinite else { continue }
      if x == y || (x.isNaN && y.isNaN) {
        errors.sameNonFinite += 1
      } else {
        errors.nonFinite += 1
        if errors.firstNonFinite == nil {
          let (row, column) = index.quotientAndRemainder(dividingBy: pair.columns)
          errors.firstNonFinite = TensorErrors.Place(
            matrix: origin.matrix, row: origin.row + row, column: origin.column + column)
        }
      }
      scratch.source.values[index] = 0
      scratch.candidate.values[index] = 0
    }
  }

  private func compareBytes(_ range: Range<Int>) throws(CheckpointError) -> TensorErrors {
    func bytes(_ side: WeightSide) throws(CheckpointError) -> [UInt8] {
      let start = side.stored.codes.byteRange.lowerBound
      return try side.file.source.readBytes(start + range.lowerBound..<start + range.upperBound)
    }
    var errors = TensorErrors()
    let (left, right) = (try bytes(pair.a), try bytes(pair.b))
    if left != right { errors.differingBytes = zip(left, right).count { $0 != $1 } }
    return errors
  }
}

/// One matrix of a pair, ready to be read from both sides.
private struct MatrixPair: Sendable {
  let candidate: MatrixRowReader
  let source: MatrixRowReader
  /// Its index in the whole weight.
  let number: Int
  /// What its own scale cannot resolve.
  let floor: Double

  /// - Parameter inner: The index of the matrix in the box.
  /// - Throws: What reading scales throws.
  init(_ pair: WeightPair, matrix inner: Int) throws(CheckpointError) {
    let stack = pair.box.stack
    number = stack.position(of: inner, in: TensorBox(wholeOf: stack.shape))
    candidate = try MatrixRowReader(pair.a, pair.box, matrix: inner)
    source = try MatrixRowReader(pair.b, pair.box, matrix: inner)
    floor = try Self.floor(pair.a.stored, matrix: inner, in: pair.a.weights.checkpoint)
  }

  /// Half of the smallest step under the largest scale of a matrix.
  ///
  /// In formats with one scale for the whole matrix, a large row costs small ones precision; only the scale tells how
  /// much.
  private static func floor(
    _ stored: StoredWeight, matrix: Int, in checkpoint: Checkpoint
  ) throws(CheckpointError) -> Double {
    let tensor: Checkpoint.Tensor?
    switch stored.scheme?.scheme {
    case .nvfp4: tensor = stored.matrixScales
    case .fp8Block(let rows, let columns)
    where rows > ErrorBound.largestTile || columns > ErrorBound.largestTile:
      tensor = stored.scales
    default: return 0
    }
    guard let tensor, let scheme = stored.scheme, let codec = BlockCodec.codec(for: tensor.elementType) else {
      return 0
    }
    let matrices = max(1, stored.shape.dimensions.dropLast(2).reduce(1, *))
    let count = tensor.shape.elementCount / matrices
    let bytes = count * tensor.elementType.block.bytes
    let start = tensor.byteRange.lowerBound + matrix * bytes
    let raw = try checkpoint.files[tensor.file].source.readBytes(start..<start + bytes)
    var values = [Float](repeating: 0, count: count)
    var span = values.mutableSpan
    try unsafe codec.decode(raw.span.bytes, into: &span)
    let largest = values.reduce(0) { max($0, $1.magnitude) }
    guard largest > 0, largest.isFinite else { return 0 }
    // F8_E4M3 has steps of 2^-9 at its lower end; those of NVFP4 are scales of codes up to 6.
    guard scheme.scheme == .nvfp4 else { return 0x1p-10 * Double(largest) }
    return 6 * 0x1p-10 * (scheme.dividesByMatrixScale ? 1 / Double(largest) : Double(largest))
  }
}
