import CheckpointTesting
import Inspection
import Testing

@Suite("histograms of values") struct ValueHistogramTests {
  /// A histogram of F32 values, counted in pieces of the given size.
  private func histogram(_ values: [Float], pieces: Int) -> ValueHistogram {
    var counter = ValueCounter()
    var all = ValueHistogram()
    for start in stride(from: 0, to: values.count, by: pieces) {
      unsafe counter.add(float32: Array(values[start..<min(values.count, start + pieces)]).span.bytes)
      all.merge(counter.take())
    }
    return all
  }

  /// The nearest-rank percentile, by definition.
  private func percentile(_ sorted: [Float], thousandths: Int) -> Double {
    Double(sorted[max(1, (sorted.count * thousandths + 99_999) / 100_000) - 1])
  }

  private func values(_ count: Int, seed: UInt64) -> [Float] {
    var generator = SeededGenerator(seed: seed)
    // Twenty binades, both signs, zeros, and a tail on one side.
    return (0..<count).map { index in
      let magnitude =
        Float.random(in: 1..<2, using: &generator)
        * Float(sign: .plus, exponent: Int.random(in: -12...8, using: &generator), significand: 1)
      return index % 50 == 0 ? 0 : index % 3 == 0 ? -magnitude / 8 : magnitude
    }
  }

  @Test("percentiles are within the documented bound", arguments: [1, 2, 100, 2047, 2049, 100_003])
  func percentiles(count: Int) throws {
    let values = values(count, seed: UInt64(count))
    let histogram = histogram(values, pieces: 33_333)
    #expect(histogram.count == count)
    let (sorted, magnitudes) = (values.sorted(), values.map(\.magnitude).sorted())
    for thousandths in [0, 1, 100, 1000, 25_000, 50_000, 77_777, 99_000, 99_900, 99_999, 100_000] {
      let percent = Double(thousandths) / 1000
      let (value, magnitude) = (
        percentile(sorted, thousandths: thousandths), percentile(magnitudes, thousandths: thousandths)
      )
      #expect(
        abs(try #require(histogram.percentile(percent)) - value) <= abs(value) * histogram.relativeError)
      #expect(
        abs(try #require(histogram.percentile(percent, of: .magnitudes)) - magnitude)
          <= magnitude * histogram.relativeError)
    }
  }

  @Test("BF16 is exact, however it is stored", arguments: [77, 5000])
  func exact(count: Int) throws {
    let values = values(count, seed: 3).map { Float(bitPattern: $0.bitPattern & 0xFFFF_0000) }
    let asFloats = histogram(values, pieces: 1000)
    var counter = ValueCounter()
    let halves = values.map { UInt16($0.bitPattern >> 16) }
    unsafe counter.add(bfloat16: halves.span.bytes)
    let asHalves = counter.take()
    #expect(asFloats.isExact && asFloats == asHalves)
    for value in values { counter.add(Double(value)) }
    #expect(counter.take() == asFloats)
    let sorted = values.sorted()
    for thousandths in [0, 100, 1000, 50_000, 99_900, 100_000] {
      #expect(asHalves.percentile(Double(thousandths) / 1000) == percentile(sorted, thousandths: thousandths))
    }
  }

  @Test func piecesAddUpInAnyOrder() {
    let values = values(50_000, seed: 8)
    let whole = histogram(values, pieces: values.count)
    #expect(!whole.isExact)
    #expect(histogram(values, pieces: 1) == whole)
    #expect(histogram(values.reversed(), pieces: 4097) == whole)
  }

  @Test func nanIsLeftOut() {
    let histogram = histogram([.nan, 1, -.infinity, .infinity, -0.0, 0, -.nan], pieces: 7)
    #expect(histogram.count == 3)
    #expect(histogram.percentile(0) == 0 && histogram.percentile(100) == 1)
    #expect(ValueHistogram().percentile(50) == nil)
  }

  @Test func valuesBeyondF32CountAsItsLargest() throws {
    var counter = ValueCounter()
    for value in [1e300, -1e300, 1e-300, .infinity, .nan] { counter.add(value) }
    let histogram = counter.take()
    #expect(histogram.count == 3 && !histogram.isExact)
    #expect(try #require(histogram.percentile(100)) > 3.38e38)
    #expect(histogram.percentile(50) == 0)
  }

  @Test func countsBetweenLimitsAddUp() {
    // 1000 values evenly from 0 to 100, and a few far away.
    let values = (0..<1000).map { Float($0) / 10 } + [-500, -500, 7000]
    let found = histogram(values, pieces: 100).counts(from: 0, to: 100, bins: 10)
    #expect(found.below == 2 && found.above == 1)
    #expect(found.counts.reduce(0, +) == 1000)
    // Half a bin at 100 is wider than the spacing of three values.
    #expect(found.counts.allSatisfy { abs($0 - 100) <= 3 }, "\(found.counts)")
  }

  @Test func countsAreSymmetricWhereValuesAre() {
    let values = (1...4000).flatMap { [Float($0) / 128, -Float($0) / 128] }
    let found = histogram(values, pieces: 999).counts(from: -32, to: 32, bins: 16).counts
    for index in 0..<16 { #expect(abs(found[index] - found[15 - index]) <= 1) }
  }

  @Test func equalLimitsGiveOneBin() {
    let found = histogram([Float](repeating: 2.5, count: 9), pieces: 4).counts(from: 2.5, to: 2.5, bins: 5)
    #expect(found.counts == [9, 0, 0, 0, 0] && found.below == 0 && found.above == 0)
  }

  @Test func limitsAtTheEndsOfF64AreHandled() {
    var counter = ValueCounter()
    for value in [1.7e308, -1.7e308, 0] { counter.add(value) }
    let found = counter.take().counts(from: -1.7e308, to: 1.7e308, bins: 3)
    #expect(found.counts == [0, 3, 0])
  }
}
