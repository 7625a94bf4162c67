import Comparison
import Testing

@Suite("differences between elements") struct ElementDifferencesTests {
  private func differences(_ a: [Float], _ b: [Float], from start: Int = 0) -> ElementDifferences {
    var result = ElementDifferences()
    result.compare(a.span, b.span, from: start)
    return result
  }

  @Test func measuresAreThoseWorkedOutByHand() {
    let found = differences([1, 2, 3, 4], [1, 5, 3, 0], from: 10)
    #expect(found.count == 2 && found.finite == 4 && found.firstIndex == 11)
    #expect(found.maxAbs == 4 && found.rmse == 2.5)
  }

  @Test func nonFiniteValuesEqualOnlyTheirOwnKind() {
    let found = differences([.nan, .infinity, .infinity, 1, .nan], [.nan, .infinity, -.infinity, .nan, 2])
    // Two NaNs are equal, and so are two infinities of the same sign.
    #expect(found.count == 3 && found.nonFinite == 3 && found.finite == 0)
    #expect(found.firstIndex == 2 && found.maxAbs == 0 && found.rmse == 0)
    #expect(differences([0, -0.0], [-0.0, 0]).count == 0)
  }

  @Test func integersBeyondDoublePrecisionAreExact() {
    var found = ElementDifferences()
    found.compare([Int128(UInt64.max), 5], [Int128(UInt64.max) - 1, 5], from: 3)
    #expect(found.count == 1 && found.maxAbs == 1 && found.firstIndex == 3)
    found = ElementDifferences()
    found.compare([Int128(Int64.min)], [Int128(UInt64.max)], from: 0)
    #expect(found.maxAbs == 0x1p64 + 0x1p63)
  }

  @Test func mergingEqualsComparingAtOnce() {
    let a = (0..<100).map { Float($0 % 7) }
    let b = (0..<100).map { Float($0 % 5) }
    let whole = differences(a, b)
    for cut in [0, 1, 6, 50, 99, 100] {
      var merged = differences(Array(a[..<cut]), Array(b[..<cut]))
      merged.merge(differences(Array(a[cut...]), Array(b[cut...]), from: cut))
      #expect(merged.count == whole.count && merged.finite == whole.finite)
      #expect(merged.firstIndex == whole.firstIndex && merged.maxAbs == whole.maxAbs)
      #expect(merged.sumOfSquares == whole.sumOfSquares)
    }
  }
}
