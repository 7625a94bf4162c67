import CheckpointTesting
import Quantization
import TensorFormats
import Testing

@Suite struct ErrorSumsTests {
  @Test(arguments: [0, 1, 15, 16, 17, 1000, 4099]) func tiersAgreeWithTheDefinition(count: Int) throws {
    let x = Array(RowKind.rows(14, columns: 512, seed: 8).prefix(count))
    let y = x.map { Float(bitPattern: $0.bitPattern & 0xFFF0_0000) }
    let expected = ErrorSums.reference(original: x.span, restored: y.span)
    for tier in KernelTier.runnable {
      #expect(try ErrorSums(original: x.span, restored: y.span, tier: tier) == expected, "\(tier)")
    }
    #expect(expected.count == count)
  }

  @Test func measuresOfAKnownPair() throws {
    let x: [Float] = [3, 4, 0, 0]
    let y: [Float] = [3, 3, 0, 2]
    var sums = try ErrorSums(original: x.span, restored: y.span)
    #expect(sums.squaredErrors == 5)
    #expect(sums.maximumAbsoluteError == 2)
    #expect(sums.rmse == (5.0 / 4).squareRoot())
    #expect(sums.relativeRMSE == (5.0 / 25).squareRoot())
    #expect(sums.cosineSimilarity == 21 / (25.0.squareRoot() * 22.0.squareRoot()))
    sums.merge(ErrorSums(exact: 4))
    #expect(sums.count == 8)
    #expect(sums.rmse == (5.0 / 8).squareRoot())
    #expect(sums.maximumAbsoluteError == 2)
  }

  @Test func emptyAndZeroRowsHaveNoError() throws {
    #expect(ErrorSums().rmse == 0)
    #expect(ErrorSums().cosineSimilarity == 1)
    let zeros = [Float](repeating: 0, count: 20)
    let ones = [Float](repeating: 1, count: 20)
    let sums = try ErrorSums(original: zeros.span, restored: ones.span)
    #expect(sums.relativeRMSE == .infinity)
    #expect(sums.cosineSimilarity == 0)
  }

  @Test func unequalCountsAreRefused() {
    let x: [Float] = [1, 2]
    let error = #expect(throws: CheckpointError.self) {
      try ErrorSums(original: x.span, restored: x.span.extracting(0..<1))
    }
    #expect(error?.code == .malformed)
  }

  @Test func theFirstNonFiniteValueIsFound() {
    let bad: [Float] = [.nan, .infinity, -.infinity, Float(bitPattern: 0xFFFF_FFFF), .signalingNaN]
    for tier in KernelTier.runnable {
      for count in [1, 63, 64, 65, 200] {
        var values = [Float](repeating: -.greatestFiniteMagnitude, count: count)
        #expect(FiniteCheck.firstNonFinite(values.span, tier: tier) == nil)
        for (n, at) in [count - 1, count / 2, 0].enumerated() {
          values[at] = bad[n]
          #expect(FiniteCheck.firstNonFinite(values.span, tier: tier) == at, "\(tier), \(count)")
        }
      }
      #expect(FiniteCheck.firstNonFinite([Float]().span, tier: tier) == nil)
    }
  }
}
