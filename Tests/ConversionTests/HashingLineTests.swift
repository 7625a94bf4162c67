import ByteStreams
import CheckpointTesting
import Conversion
import TensorFormats
import Testing

@Suite struct HashingLineTests {
  /// Files of random lengths in random pieces, on more or fewer lanes than are at work at a time: whoever takes a piece in,
  /// each file's digests are those of its bytes.
  @Test(arguments: 0..<24) func digestsOfManyFiles(seed: Int) async throws {
    var generator = SeededGenerator(seed: UInt64(seed))
    let line = HashingLine(threads: Int.random(in: 1...6, using: &generator))
    let pool = BufferPool(keep: 4)
    let files = (0..<Int.random(in: 1...8, using: &generator)).map { _ in
      let buffer = pool.take(Int.random(in: 0...600_000, using: &generator))
      buffer.fill { span in
        for position in stride(from: 0, to: span.byteCount - 7, by: 8) {
          span.storeBytes(of: generator.next(), toByteOffset: position, as: UInt64.self)
        }
        for position in (span.byteCount & ~7)..<span.byteCount {
          span.storeBytes(of: 1, toByteOffset: position, as: UInt8.self)
        }
      }
      var ends: [Int] = []
      while ends.last ?? 0 < buffer.byteCount {
        ends.append(
          min(buffer.byteCount, (ends.last ?? 0) + Int.random(in: 0...200_000, using: &generator)))
      }
      return (buffer: buffer, ends: ends)
    }
    let meter = Meter()
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (buffer, ends) in files {
        group.addTask {
          let digests = RunningDigests()
          var position = 0
          for end in ends {
            await line.take(position..<end, of: buffer, into: digests, meter: meter)
            position = end
          }
          #expect(digests.digests == FileDigests(of: buffer.bytes.withUnsafeBytes { Array($0) }))
        }
      }
      try await group.waitForAll()
    }
  }

  /// Whoever finds the line busy is taken along or has its turn: with one lane at work at a time, none is left waiting.
  @Test func nobodyIsForgotten() async {
    let line = HashingLine(threads: 1)
    let buffer = BufferPool(keep: 1).take(64)
    buffer.fill { span in for index in 0..<64 { span.storeBytes(of: 3, toByteOffset: index, as: UInt8.self) }
    }
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<32 {
        group.addTask {
          let digests = RunningDigests()
          for _ in 0..<500 { await line.take(0..<64, of: buffer, into: digests, meter: Meter()) }
          #expect(digests.digests == FileDigests(of: [UInt8](repeating: 3, count: 32_000)))
        }
      }
    }
  }
}
