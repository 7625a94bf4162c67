/// The differences of some elements of a pair, in a form that adds up.
package struct ElementDifferences: PairFigures {
  /// Whether the stored bytes differ, or cannot be compared because the types do.
  package var bytesDiffer = false
  /// Elements that differ.
  package var count = 0
  /// Elements that are finite on both sides.
  package var finite = 0
  package var maxAbs = 0.0
  package var sumOfSquares = 0.0
  /// The squares of the first side's values, over the elements that are finite on both sides.
  package var sumOfSquaresOfA = 0.0
  /// Elements with the same bytes on both sides, whose values were not decoded.
  package var unread = 0
  package var firstIndex: Int?
  package var nonFinite = 0

  package init() {}

  /// Adds the differences of later elements.
  package mutating func merge(_ later: ElementDifferences) {
    bytesDiffer = bytesDiffer || later.bytesDiffer
    count += later.count
    finite += later.finite
    maxAbs = max(maxAbs, later.maxAbs)
    sumOfSquares += later.sumOfSquares
    sumOfSquaresOfA += later.sumOfSquaresOfA
    unread += later.unread
    firstIndex = firstIndex ?? later.firstIndex
    nonFinite += later.nonFinite
  }

  /// The root of the mean square of the differences, over all elements whose values are finite on both sides.
  package var rmse: Double { finite > 0 ? (sumOfSquares / Double(finite)).squareRoot() : 0 }

  /// The norm of the differences relative to that of the first side's values, over all elements whose values are finite
  /// on both sides: ‖a − b‖ / ‖a‖. `nil` if undefined: values differ only from zeros, or some have not been read.
  package var relative: Double? {
    guard sumOfSquares > 0 else { return 0 }
    return unread == 0 && sumOfSquaresOfA > 0 ? (sumOfSquares / sumOfSquaresOfA).squareRoot() : nil
  }

  /// Compares real numbers; two NaNs are equal, and so are two infinities of one sign.
  ///
  /// - Precondition: Both spans have the same length.
  package mutating func compare<T: BinaryFloatingPoint>(_ a: Span<T>, _ b: Span<T>, from start: Int) {
    for index in a.indices {
      let (left, right) = (a[index], b[index])
      if left.isFinite, right.isFinite {
        finite += 1
        sumOfSquaresOfA += Double(left) * Double(left)
        guard left != right else { continue }
        let difference = abs(Double(left) - Double(right))
        maxAbs = max(maxAbs, difference)
        sumOfSquares += difference * difference
      } else {
        guard left != right, !(left.isNaN && right.isNaN) else { continue }
        nonFinite += 1
      }
      note(start + index)
    }
  }

  /// Compares integers exactly.
  ///
  /// - Precondition: Both arrays have the same length.
  package mutating func compare(_ a: [Int128], _ b: [Int128], from start: Int) {
    finite += a.count
    for index in a.indices {
      sumOfSquaresOfA += Double(a[index]) * Double(a[index])
      guard a[index] != b[index] else { continue }
      // Two 64-bit integers differ by less than 2⁶⁵.
      let difference = abs(Double(a[index] - b[index]))
      maxAbs = max(maxAbs, difference)
      sumOfSquares += difference * difference
      note(start + index)
    }
  }

  private mutating func note(_ index: Int) {
    count += 1
    if firstIndex == nil { firstIndex = index }
  }
}
