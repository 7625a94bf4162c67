import CheckpointTesting
import GGUF
import TensorFormats
import Testing

/// The bytes after a change of byte order.
func swapped(_ type: ElementType, _ bytes: [UInt8]) -> [UInt8] {
  var result = bytes
  do {
    var elements = result.mutableSpan
    var span = elements.mutableBytes
    GGUFByteOrder.swapPayload(type, &span)
  }
  return result
}

@Suite struct PayloadTests {
  /// Where each byte of a block goes, as runs: a positive number is that many bytes left in place, a negative one
  /// a number of that many bytes. Written down from the structures of ggml-common.h and the loads of
  /// ggml-quants.c.
  private static let blocks: [(type: ElementType, runs: [Int])] = [
    (.bool, [1]), (.u8, [1]), (.i8, [1]), (.u16, [-2]), (.i16, [-2]), (.u32, [-4]), (.i32, [-4]),
    (.u64, [-8]),
    (.i64, [-8]), (.f16, [-2]), (.bf16, [-2]), (.f32, [-4]), (.f64, [-8]), (.c64, [-4, -4]), (.f8E5M2, [1]),
    (.f8E4M3, [1]), (.f8E8M0, [1]), (.f8E4M3FNUZ, [1]), (.f8E5M2FNUZ, [1]), (.f4, [1]), (.f6E2M3, [3]),
    (.f6E3M2, [3]),
    (.q4_0, [-2, 16]), (.q4_1, [-2, -2, 16]), (.q5_0, [-2, -4, 16]), (.q5_1, [-2, -2, -4, 16]),
    (.q8_0, [-2, 32]), (.q8_1, [-2, -2, 32]),
    (.q2K, [16 + 64, -2, -2]), (.q3K, [32 + 64 + 12, -2]), (.q4K, [-2, -2, 12 + 128]),
    (.q5K, [-2, -2, 12 + 32 + 128]), (.q6K, [128 + 64 + 16, -2]),
    (.q8K, [-4, 256] + Array(repeating: -2, count: 16)),
    (.iq2XXS, [-2] + Array(repeating: [4, -4], count: 8).flatMap { $0 }),
    (.iq2XS, [-2] + Array(repeating: -2, count: 32) + [8]),
    (.iq3XXS, [-2, 64] + Array(repeating: -4, count: 8)),
    (.iq1S, [-2, 32] + Array(repeating: -2, count: 8)),
    (.iq4NL, [-2, 16]), (.iq3S, [-2, 64 + 8 + 32 + 4]), (.iq2S, [-2, 64 + 8 + 8]),
    (.iq4XS, [-2, -2, 4 + 128]),
    (.iq1M, [32 + 16, -2, -2, -2, -2]), (.tq1_0, [48 + 4, -2]), (.tq2_0, [64, -2]), (.mxfp4, [17]),
    (.nvfp4, [36]),
    (.q1_0, [-2, 16]), (.q2_0, [-2, 16]),
  ]

  @Test func everyTypeHasARow() {
    #expect(Set(PayloadTests.blocks.map(\.type)) == Set(ElementType.allCases))
    for block in PayloadTests.blocks {
      #expect(block.runs.reduce(0) { $0 + abs($1) } == block.type.block.bytes, "\(block.type)")
    }
  }

  @Test(arguments: ElementType.allCases)
  func byteOrderOfEveryTypeIsSwapped(type: ElementType) throws {
    let runs = try #require(PayloadTests.blocks.first { $0.type == type }).runs
    var generator = SeededGenerator(seed: 7)
    let blockCount = 5
    let bytes = (0..<(type.block.bytes * blockCount)).map { _ in UInt8.random(in: 0...255, using: &generator)
    }
    var expected: [UInt8] = []
    for _ in 0..<blockCount {
      for run in runs {
        let field = bytes[expected.count..<(expected.count + abs(run))]
        expected += run > 0 ? Array(field) : field.reversed()
      }
    }
    #expect(swapped(type, bytes) == expected)
    #expect(swapped(type, expected) == bytes)
    #expect(swapped(type, []) == [])
  }
}
