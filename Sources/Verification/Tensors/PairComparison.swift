internal import ByteStreams
internal import Checkpoint
internal import ModelWeights
internal import Quantization
internal import TensorFormats

/// Compares units of pairs, one thread's worth.
struct PairComparison {
  private let pairs: [TensorPair]
  private var reader: (pair: Int, matrix: Int, reader: PairReader)?
  private var scratch = PairReader.Scratch()

  init(_ pairs: [TensorPair]) { self.pairs = pairs }

  /// Reads and compares the rows of a unit.
  ///
  /// - Throws: What reading throws.
  mutating func compare(_ unit: PairUnit) throws(CheckpointError) -> TensorErrors {
    let pair = pairs[unit.pair]
    guard case .values(let bound) = pair.method else { return try compareBytes(pair, unit.rows) }
    let reader = try reader(of: unit, pair)
    try reader.read(unit.rows, &scratch)
    var errors = TensorErrors()
    let columns = pair.columns
    let count = unit.rows.count * columns
    if FiniteCheck.firstNonFinite(scratch.source.span.extracting(..<count)) != nil
      || FiniteCheck.firstNonFinite(scratch.candidate.span.extracting(..<count)) != nil
    {
      setAsideNonFinite(count, columns, unit, reader, &errors)
    }
    let judge = RowJudge(
      bound: bound, floor: reader.floor, isStack: pair.box.shape.rank == 3)
    var height = unit.rows.count
    if case .tile(let rows, _) = bound.reach { height = rows }
    let (source, candidate) = (scratch.source.span, scratch.candidate.span)
    for first in stride(from: 0, to: unit.rows.count, by: height) {
      let end = min(first + height, unit.rows.count)
      let tiles = judge.tiles(source.extracting(first * columns..<end * columns), columns: columns)
      for row in first..<end {
        let range = row * columns..<(row + 1) * columns
        try judge.judge(
          source.extracting(range), candidate.extracting(range), tiles,
          at: TensorErrors.Place(
            matrix: reader.matrix, row: reader.top + unit.rows.lowerBound + row, column: reader.left),
          into: &errors)
      }
    }
    return errors
  }

  private mutating func reader(of unit: PairUnit, _ pair: TensorPair) throws(CheckpointError) -> PairReader {
    if let reader, reader.pair == unit.pair, reader.matrix == unit.matrix { return reader.reader }
    let fresh = try PairReader(pair, matrix: unit.matrix)
    reader = (unit.pair, unit.matrix, fresh)
    return fresh
  }

  /// Counts elements that are no finite numbers, and makes zeros of them on both sides.
  private mutating func setAsideNonFinite(
    _ count: Int, _ columns: Int, _ unit: PairUnit, _ reader: PairReader, _ errors: inout TensorErrors
  ) {
    for index in 0..<count {
      let (x, y) = (scratch.source[index], scratch.candidate[index])
      guard !x.isFinite || !y.isFinite else { continue }
      if x == y || (x.isNaN && y.isNaN) {
        errors.sameNonFinite += 1
      } else {
        errors.nonFinite += 1
        errors.firstNonFinite =
          errors.firstNonFinite
          ?? TensorErrors.Place(
            matrix: reader.matrix, row: reader.top + unit.rows.lowerBound + index / columns,
            column: reader.left + index % columns)
      }
      scratch.source[index] = 0
      scratch.candidate[index] = 0
    }
  }

  private func compareBytes(_ pair: TensorPair, _ range: Range<Int>) throws(CheckpointError) -> TensorErrors {
    var errors = TensorErrors()
    guard let other = pair.sourcePiece ?? pair.sourceWeight.pieces.first else { return errors }
    let (a, b) = (pair.piece.stored.codes, other.stored.codes)
    func bytes(_ start: Int, _ source: any ByteSource) throws(CheckpointError) -> [UInt8] {
      try source.readBytes(start + range.lowerBound..<start + range.upperBound)
    }
    let left = try bytes(a.byteRange.lowerBound, pair.candidate.checkpoint.files[a.file].source)
    let right = try bytes(b.byteRange.lowerBound, pair.source.checkpoint.files[b.file].source)
    if left != right { errors.differingBytes = zip(left, right).count { $0 != $1 } }
    return errors
  }
}
