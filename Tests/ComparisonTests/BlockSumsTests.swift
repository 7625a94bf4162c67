import Testing

import Comparison

/// The sums by which blocks are judged.
@Suite struct BlockSumsTests {
  @Test("block sums equal the definition at any length and block size", arguments: [Float(1), 1e-25, 1e25])
  func definition(size: Float) {
    let x = (0..<77).map { Float($0 % 13 - 6) * size }
    let y = (0..<77).map { Float($0 % 7 - 3) * size }
    for range in [0..<0, 0..<16, 3..<77, 5..<6, 32..<70] {
      let sums = BlockSums(x.span, y.span, range)
      var squares = 0.0
      var errors = 0.0
      for index in range {
        squares += Double(x[index]) * Double(x[index])
        errors += (Double(x[index]) - Double(y[index])) * (Double(x[index]) - Double(y[index]))
      }
      #expect(abs(sums.squares - squares) <= squares * 1e-5)
      #expect(abs(sums.squaredErrors - errors) <= errors * 1e-5)
      #expect(BlockSums.largest(x.span, range) == range.map { x[$0].magnitude }.max() ?? 0)
    }
  }
}
