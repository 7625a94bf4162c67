import ByteStreams
import CheckpointTesting
import TensorFormats
import Testing

/// Writing past the page cache where the temporary directory's file system offers it, and through it elsewhere.
@Suite struct DirectWriterTests {
  /// Every byte of the file identifies its position.
  private static func bytes(_ range: Range<Int>, seed: Int = 0) -> [UInt8] {
    range.map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761 + seed) >> 13) }
  }

  /// Adjacent units that share blocks, at unaligned offsets and from unaligned memory, written by several threads.
  @Test(arguments: [0, 1, 511, 512, 4_095]) func unalignedUnitsLeaveTheirNeighboursIntact(_ first: Int)
    async throws
  {
    let directory = try TemporaryDirectory()
    let size = 9_000_001
    let path = directory.path("file")
    let output = try OutputFile(path, byteCount: size, largeFrom: 0)
    var starts = [0, first]
    while let last = starts.last, last < size { starts.append(min(size, last + 700_003 + 64 * starts.count)) }
    try await withThrowingTaskGroup(of: Void.self) { group in
      for (start, end) in zip(starts, starts.dropFirst()) {
        group.addTask {
          // Leading bytes shift the address.
          let shift = [0, 1, 480][start % 3]
          let content = [UInt8](repeating: 0xAA, count: shift) + Self.bytes(start..<end)
          try output.write(content.span.bytes.extracting(shift..<content.count), at: start)
        }
      }
      try await group.waitForAll()
    }
    let expected = Self.bytes(0..<size)
    #expect(try output.readBytes(0..<size) == expected)
    try output.synchronize()
    #expect(try InputFile(path).readBytes(0..<size) == expected)
  }

  /// Cached bytes, written or only read, give way to later direct writes, and the other way round.
  @Test func laterWritesWinOverCachedBytes() throws {
    let directory = try TemporaryDirectory()
    let size = 3 << 20
    let path = directory.path("file")
    var expected = [UInt8](repeating: 0, count: size)
    for (round, range) in [
      0..<size, 4_095..<4_097, 100..<(size - 100), 8_192..<(8_192 + (1 << 20)), 1_000_000..<1_000_100,
      0..<size,
      1..<(size - 1),
    ].enumerated() {
      let output = try OutputFile(path, byteCount: size, reopening: round > 0, largeFrom: 0)
      let content = Self.bytes(range, seed: round * 77_777)
      try output.write(content.span.bytes, at: range.lowerBound)
      expected.replaceSubrange(range, with: content)
      #expect(try output.readBytes(0..<size) == expected, "round \(round)")
      #expect(try InputFile(path).readBytes(0..<size) == expected, "round \(round)")
    }
  }
}
