import Testing
import Verification

@Suite("Estimates")
struct EstimateTests {
  @Test("the standard error treats sequences as clusters of their own lengths")
  func clusters() throws {
    // The mean is 2; the sequences' sums less their lengths times the mean are -2, 1 and 1.
    let values: [Double?] = [1, 1, 2, 3, 3]
    let estimate = try #require(Estimate.mean(values, [0..<2, 2..<4, 4..<5]))
    #expect(estimate.value == 2)
    let variance = 3.0 / 2 * (4 + 1 + 1) / 25
    #expect(abs((estimate.standardError ?? 0) - variance.squareRoot()) < 1e-15)
  }

  @Test("positions without a value do not count")
  func gaps() throws {
    let estimate = try #require(Estimate.mean([1, nil, 3, nil], [0..<2, 2..<4]))
    #expect(estimate.value == 2)
    #expect(abs((estimate.standardError ?? 0) - (2.0 * 2 / 4).squareRoot()) < 1e-15)
    #expect(Estimate.mean([nil, nil], [0..<1, 1..<2]) == nil)
  }

  @Test("a single sequence is divided into stretches, and a single stretch has no standard error")
  func stretches() {
    #expect(Estimate.clusters([0..<150], positions: 150) == [0..<64, 64..<128, 128..<150])
    #expect(Estimate.clusters([], positions: 10) == [0..<10])
    #expect(Estimate.clusters([0..<3, 3..<3, 3..<5], positions: 5) == [0..<3, 3..<5])
    #expect(Estimate.mean([1, 2], [0..<2])?.standardError == nil)
    #expect(Estimate.mean([1, .infinity], [0..<1, 1..<2])?.standardError == nil)
  }
}
