import CheckpointTesting
import Quantization
import Testing

/// Byte planes on every kernel tier, against their definition.
@Suite struct BytePlanesTests {
  private func random(_ count: Int, seed: UInt64) -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
  }

  private func apply(
    _ bytes: [UInt8], _ body: (RawSpan, inout MutableRawSpan) -> Void
  ) -> [UInt8] {
    var result = [UInt8](repeating: 0xEE, count: bytes.count)
    var span = result.mutableSpan
    var target = span.mutableBytes
    body(bytes.span.bytes, &target)
    return result
  }

  @Test(arguments: [2, 4]) func tiersAgree(width: Int) {
    for count in Array(0..<140) + [1023, 4096, 65_536 + 3] {
      let elements = random(count, seed: UInt64(count))
      let planes = BytePlanes.splitReference(elements, width: width)
      #expect(BytePlanes.joinReference(planes, width: width) == elements)
      for tier in KernelTier.runnable {
        #expect(
          apply(elements) { BytePlanes.split($0, width: width, into: &$1, tier: tier) } == planes,
          "\(count) bytes split, \(tier)")
        #expect(
          apply(planes) { BytePlanes.join($0, width: width, into: &$1, tier: tier) } == elements,
          "\(count) bytes joined, \(tier)")
      }
    }
  }

  @Test func planesSeparateSignExponentAndMantissa() {
    // 1 01111110 0000011 in BF16: minus, exponent 126, mantissa 3.
    let bits: UInt16 = 1 << 15 | 126 << 7 | 3
    #expect(BytePlanes.splitReference([UInt8(bits & 255), UInt8(bits >> 8)], width: 2) == [126, 0x83])
    let single: UInt32 = 1 << 31 | 126 << 23 | 3 << 16 | 0x1234
    let bytes = (0..<4).map { UInt8(single >> (8 * $0) & 255) }
    #expect(BytePlanes.splitReference(bytes, width: 4) == [126, 0x83, 0x12, 0x34])
  }
}
