/// The differences of some elements of a pair, in a form that adds up.
struct ElementDifferences: Sendable {
  /// Whether the stored bytes differ, or cannot be compared because the types do.
  var bytesDiffer = false
  /// Elements that differ.
  var count = 0
  /// Elements that are finite on both sides.
  var finite = 0
  var maxAbs = 0.0
  var sumOfSquares = 0.0
  var firstIndex: Int?
  var nonFinite = 0

  /// Adds the differences of later elements.
  mutating func merge(_ later: ElementDifferences) {
    bytesDiffer = bytesDiffer || later.bytesDiffer
    count += later.count
    finite += later.finite
    maxAbs = max(maxAbs, later.maxAbs)
    sumOfSquares += later.sumOfSquares
    firstIndex = firstIndex ?? later.firstIndex
    nonFinite += later.nonFinite
  }

  var errors: DifferenceReport.Errors {
    DifferenceReport.Errors(
      count: count, maxAbs: maxAbs, rmse: finite > 0 ? (sumOfSquares / Double(finite)).squareRoot() : 0,
      firstIndex: firstIndex, nonFinite: nonFinite)
  }

  /// Compares real numbers; two NaNs are equal, and so are two infinities of one sign.
  ///
  /// - Precondition: Both spans have the same length.
  mutating func compare<T: BinaryFloatingPoint>(_ a: Span<T>, _ b: Span<T>, from start: Int) {
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
  mutating func compare(_ a: [Int128], _ b: [Int128], from start: Int) {
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
