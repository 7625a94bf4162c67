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
    firstIndex = firstIndex ?? later.firstIndex
    nonFinite += later.nonFinite
  }

  /// The root of the mean square of the differences, over all elements whose values are finite on both sides.
  package var rmse: Double { finite > 0 ? (sumOfSquares / Double(finite)).squareRoot() : 0 }

  /// Compares real numbers; two NaNs are equal, and so are two infinities of one sign.
  ///
  /// - Precondition: Both spans have the same length.
  package mutating func compare<T: BinaryFloatingPoint>(_ a: Span<T>, _ b: Span<T>, from start: Int) {
    for index in a.indices {
      let (left, right) = (a[index], b[index])
      if left.isFinite, right.isFinite {
        finite += 1
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
    for index in a.indices where a[index] != b[index] {
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
