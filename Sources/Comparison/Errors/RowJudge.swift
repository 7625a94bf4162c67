internal import Quantization
package import TensorFormats

/// Compares rows of a candidate with rows of its source, block by block.
package struct RowJudge {
  let bound: ErrorBound
  /// Added to ``ErrorBound/absolute``: what the matrix's own scale cannot resolve.
  let floor: Double
  /// Whether figures are kept for each matrix.
  let isStack: Bool

  package init(bound: ErrorBound, floor: Double, isStack: Bool) {
    self.bound = bound
    self.floor = floor
    self.isStack = isStack
  }

  /// The largest magnitudes of the tiles across one row of tiles.
  package struct Tiles {
    var largest: [Float] = []
  }

  /// The largest magnitudes of the tiles of some rows.
  ///
  /// - Parameter values: Rows of `columns` finite values.
  package func tiles(_ values: Span<Float>, columns: Int) -> Tiles {
    guard case .tile(_, let width) = bound.reach, columns > 0 else { return Tiles() }
    var largest = [Float](repeating: 0, count: (columns + width - 1) / width)
    for row in 0..<values.count / columns {
      for tile in largest.indices {
        let start = row * columns + tile * width
        let end = min(start + width, (row + 1) * columns)
        largest[tile] = max(largest[tile], BlockSums.largest(values, start..<end))
      }
    }
    return Tiles(largest: largest)
  }

  /// Judges one row of finite values.
  ///
  /// - Parameters:
  ///   - source: The row of the source.
  ///   - candidate: The row of the candidate.
  ///   - place: The row's first element.
  package func judge(
    _ source: Span<Float>, _ candidate: Span<Float>, _ tiles: Tiles, at place: TensorErrors.Place,
    into errors: inout TensorErrors
  ) throws(CheckpointError) {
    let sums = try ErrorSums(original: source, restored: candidate)
    if sums.maximumAbsoluteError > errors.sums.maximumAbsoluteError {
      let column = source.indices.first { abs(source[$0] - candidate[$0]) == sums.maximumAbsoluteError }
      errors.largestErrorPlace = TensorErrors.Place(
        matrix: place.matrix, row: place.row, column: place.column + (column ?? 0))
    }
    errors.sums.merge(sums)
    var (boundSquares, usualSquares) = (0.0, 0.0)
    // A row without error needs no bound; leaving it out only tightens the tensor's bound.
    if sums.maximumAbsoluteError > 0 {
      var bad = 0
      if bound.isExact, floor == 0 {
        bad = 1
        errors.badBlocks += 1
        TensorErrors.Worst.keep(
          &errors.worstBlock, worst(sums.squaredErrors, sums.originalSquares, 0, place, source.count))
      } else {
        (bad, boundSquares, usualSquares) = blocks(source, candidate, tiles, place, &errors)
      }
      if bad > 0 { errors.badRows += 1 }
      TensorErrors.Worst.keep(
        &errors.worstRow,
        worst(sums.squaredErrors, sums.originalSquares, boundSquares, place, source.count))
    }
    errors.boundSquares += boundSquares
    errors.usualSquares += usualSquares
    if isStack {
      errors.matrices[place.matrix, default: TensorErrors.Matrix()].add(
        TensorErrors.Matrix(
          squaredErrors: sums.squaredErrors, squares: sums.originalSquares, boundSquares: boundSquares))
    }
  }

  /// Judges the blocks of a row.
  ///
  /// - Returns: How many exceed their bound, and the sums of squares of the bounds and of typical errors.
  private func blocks(
    _ source: Span<Float>, _ candidate: Span<Float>, _ tiles: Tiles, _ place: TensorErrors.Place,
    _ errors: inout TensorErrors
  ) -> (bad: Int, boundSquares: Double, usualSquares: Double) {
    var bad = 0
    var (boundSquares, usualSquares) = (0.0, 0.0)
    let needsLargest = bound.ofLargest > 0
    let whole = needsLargest && bound.reach == .row ? BlockSums.largest(source, 0..<source.count) : 0
    var reachEnd = 0
    var largest = whole
    var start = 0
    // Over all blocks within reach: their sums, the start, and how many were bad before.
    var within = (squares: 0.0, squaredErrors: 0.0, start: 0, bad: 0)
    while start < source.count {
      let end = min(start + bound.block, source.count)
      switch bound.reach {
      case .row: break
      case .tile(_, let width): largest = tiles.largest[start / width]
      case .neighbours(let length):
        if start >= reachEnd {
          within = (0, 0, start, bad)
          reachEnd = min(start + length, source.count)
          if needsLargest { largest = BlockSums.largest(source, start..<reachEnd) }
        }
      }
      let sums = BlockSums(source, candidate, start..<end)
      let count = end - start
      let norm = sums.squares.squareRoot()
      let fixed = min(norm, Double(count).squareRoot() * (bound.absolute + floor))
      let limit =
        bound.limit(norm: norm, largest: largest, count: count) + Double(count).squareRoot() * floor
      let most = bound.most(limit, norm: norm, fixed: fixed)
      boundSquares += most * most
      usualSquares += usual(sums, limit, most, fixed, source, start..<end)
      // A millionth allows for rounding of the sums.
      if sums.squaredErrors > most * most * 1.000_002 {
        bad += 1
      }
      if sums.squaredErrors > 0 {
        let here = TensorErrors.Place(matrix: place.matrix, row: place.row, column: place.column + start)
        TensorErrors.Worst.keep(
          &errors.worstBlock, worst(sums.squaredErrors, sums.squares, most * most, here, count))
      }
      within.squares += sums.squares
      within.squaredErrors += sums.squaredErrors
      if end == reachEnd, within.start < start, bad == within.bad {
        // An error of exactly the block's norm means zeros, which no encoder produces.
        let isZero = within.squaredErrors == within.squares
        let count = end - within.start
        let limit =
          (isZero ? ErrorBound.zeros : bound.ceiling) * within.squares.squareRoot()
          + Double(count).squareRoot() * (bound.absolute + floor)
        if within.squaredErrors > limit * limit {
          bad += 1
          let here = TensorErrors.Place(
            matrix: place.matrix, row: place.row, column: place.column + within.start)
          TensorErrors.Worst.keep(
            &errors.worstBlock,
            worst(within.squaredErrors, within.squares, limit * limit, here, count))
        }
      }
      start = end
    }
    errors.badBlocks += bad
    return (bad, boundSquares, usualSquares)
  }

  /// The square of a block's largest typical error, as one of many.
  ///
  /// Rounding errors average out, to ``ErrorBound/typical`` times the bound. Two kinds do not: the loss from the
  /// smallest step of a scale (`fixed`) affects every value, and if all values of a block have one magnitude, or are
  /// zero, they all have the same error, anything up to the bound.
  private func usual(
    _ sums: BlockSums, _ limit: Double, _ most: Double, _ fixed: Double, _ source: Span<Float>,
    _ range: Range<Int>
  ) -> Double {
    let rounding = bound.typical * max(0, limit - fixed)
    let usual = max(bound.typical * limit, (rounding * rounding + fixed * fixed).squareRoot())
    guard usual < most, sums.squaredErrors > usual * usual, Self.isOneMagnitude(source, range) else {
      return min(usual, most) * min(usual, most)
    }
    return most * most
  }

  /// Whether every magnitude is within a hundredth of the largest, or below a hundredth of it.
  private static func isOneMagnitude(_ values: Span<Float>, _ range: Range<Int>) -> Bool {
    let largest = BlockSums.largest(values, range)
    return range.allSatisfy { index in
      let magnitude = values[index].magnitude
      return magnitude >= largest * 0.99 || magnitude <= largest * 0.01
    }
  }

  private func worst(
    _ squaredErrors: Double, _ squares: Double, _ boundSquares: Double, _ place: TensorErrors.Place,
    _ count: Int
  ) -> TensorErrors.Worst {
    TensorErrors.Worst(
      share: (squaredErrors / boundSquares).squareRoot(), place: place, count: count,
      relative: (squaredErrors / squares).squareRoot(), limit: (boundSquares / squares).squareRoot())
  }
}
