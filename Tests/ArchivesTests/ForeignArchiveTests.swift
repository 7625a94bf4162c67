import Archives
import ByteStreams
import CheckpointTesting
import TensorFormats
import Testing

/// zstd files written by other programs, and hostile ones.
@Suite struct ForeignArchiveTests {
  static let content = Weights.random(400_000, seed: 1)

  static func little(_ value: Int, _ count: Int = 4) -> [UInt8] {
    (0..<count).map { UInt8(value >> (8 * $0) & 255) }
  }

  /// A seek table without checksums.
  static func table(_ entries: [(Int, Int)], count: Int? = nil, descriptor: UInt8 = 0) -> [UInt8] {
    let content =
      entries.flatMap { little($0.0) + little($0.1) } + little(count ?? entries.count) + [descriptor]
      + little(0x8F92_EAB1)
    return little(0x184D_2A5E) + little(content.count) + content
  }

  private func open(_ bytes: [UInt8]) throws -> ArchiveSource {
    try ArchiveSource(MemorySource(bytes, path: "x.zst"))
  }

  private func refused(_ bytes: [UInt8], _ code: CheckpointError.Code, _ words: String) {
    let error = #expect(throws: CheckpointError.self) {
      let source = try open(bytes)
      _ = try source.readBytes(0..<source.byteCount)
    }
    #expect(error?.code == code, "\(error?.description ?? "")")
    #expect(error?.message.contains(words) == true, "\(error?.description ?? "")")
    #expect(error?.path == "x.zst")
  }

  @Test func framesWithContentSizesAllowRandomAccess() throws {
    let parts = [Self.content[..<1000], Self.content[1000..<300_000], Self.content[300_000...]]
    let skippable = Self.little(0x184D_2A53) + Self.little(3) + [1, 2, 3]
    let bytes = parts.flatMap { SmallArchive.frame(Array($0), stated: UInt64($0.count)) + skippable }
    let source = try open(bytes)
    #expect(!source.isContainer && source.byteCount == Self.content.count)
    #expect(try source.readBytes(0..<400_000) == Self.content)
    #expect(try source.readBytes(999..<300_001) == Array(Self.content[999..<300_001]))
    #expect(try open([]).byteCount == 0)
  }

  @Test func seekTablesOfOtherWritersAreUsed() throws {
    let (first, second) = (Array(Self.content[..<70_000]), Array(Self.content[70_000...]))
    let frames = [SmallArchive.frame(first, stated: nil), SmallArchive.frame(second, stated: nil)]
    let table = Self.table([(frames[0].count, 70_000), (frames[1].count, 330_000)])
    let source = try open(frames[0] + frames[1] + table)
    #expect(!source.isContainer)
    #expect(try source.readBytes(0..<400_000) == Self.content)
    #expect(try source.readBytes(69_000..<71_000) == Array(Self.content[69_000..<71_000]))
  }

  @Test func oneLargeFrameIsRefusedWithARemedy() throws {
    refused(
      SmallArchive.frame(Self.content, stated: nil), .unsupported, "does not state its decompressed size")
    let large = [UInt8](repeating: 1, count: 200_000)
    // 1.6 GB of repeated bytes.
    var bomb = SmallArchive.frame([], stated: 12_500 << 17)
    bomb.removeLast(3)
    bomb += (0..<12_500).flatMap { [UInt8]([$0 == 12_499 ? 3 : 2, 0, 16, 7]) }
    refused(bomb, .unsupported, "would have to be decoded completely")
    let error = #expect(throws: CheckpointError.self) { try open(bomb) }
    #expect(
      error?.remedy?.contains("zstd -d") == true && error?.remedy?.contains("step3-convert archive") == true)
    refused(SmallArchive.frame(large, stated: 1 << 60), .unsupported, "would have to be decoded completely")
  }

  @Test func hostileSeekTablesAreRefused() {
    let frame = SmallArchive.frame(Array(Self.content[..<1000]), stated: 1000)
    refused(frame + Self.table([(frame.count, 1000), (5, 5)]), .malformed, "lie before it")
    refused(frame + Self.table([(frame.count - 1, 1000)]), .malformed, "lie before it")
    refused(frame + frame + Self.table([(frame.count, 1000)]), .malformed, "lie before it")
    refused(frame + Self.table([(frame.count, 999)]), .malformed, "states 1000 bytes, the table has 999")
    refused(frame + Self.table([(frame.count, 4_000_000_000)]), .malformed, "cannot decompress to 4000000000")
    refused(frame + Self.table([(0, 1000), (frame.count, 0)]), .malformed, "cannot decompress to")
    refused(
      frame + Self.table([(frame.count, 1000)], count: 300_000_000), .malformed,
      "more than the file has room for")
    refused(frame + Self.table([(frame.count, 1000)], descriptor: 0x40), .unsupported, "reserved bits")
    // Two frames as one, and one as two.
    let half = SmallArchive.frame(Array(Self.content[..<500]), stated: 500)
    refused(half + half + Self.table([(2 * half.count, 1000)]), .malformed, "the table has 1000")
    let nameless = SmallArchive.frame(Array(Self.content[..<500]), stated: nil)
    refused(
      nameless + nameless + Self.table([(2 * nameless.count, 1000)]), .malformed,
      "bytes stated in the table")
    refused(frame + Self.table([(10, 500), (frame.count - 10, 500)]), .malformed, "")
    // A frame followed by far more bytes than it needs.
    let air = [UInt8](repeating: 0, count: 70_000)
    refused(frame + air + Self.table([(frame.count + air.count, 1000)]), .malformed, "takes")
  }

  @Test func aClaimOfPetabytesIsRefusedAtOnce() {
    // A million entries of nearly 128 MiB each, with no data behind them.
    let entries = [(Int, Int)](repeating: (4096, 100 << 20), count: 1_000_000)
    refused(Self.table(entries), .malformed, "lie before it")
  }

  @Test func brokenMapsAreRefused() throws {
    let (_, archive) = try ArchiveSourceTests.mixed()
    let place = try #require(
      archive.indices.first { archive[$0...].starts(with: Array("STEP3ZST".utf8)) })
    func changed(_ offset: Int, _ value: UInt8) -> [UInt8] {
      var bytes = archive
      bytes[place + offset] = value
      return bytes
    }
    refused(changed(8, 2), .unsupported, "version 2")
    refused(changed(12, 99), .malformed, "runs need")
    refused(changed(16, archive[place + 16] ^ 1), .malformed, "checksum")
    refused(changed(28, 9), .malformed, "checksum")
  }

  @Test func brokenFramesWithoutATableAreRefused() {
    let frame = SmallArchive.frame(Array(Self.content[..<1000]), stated: 1000)
    refused(Array(frame.dropLast(10)), .truncated, "is incomplete")
    refused(frame + [1, 2, 3], .truncated, "inside a frame")
    refused(frame + Array("no frame of zstd at all".utf8), .malformed, "no zstd frame")
    refused(Self.little(0x184D_2A50) + Self.little(0xFFFF_FFF0), .truncated, "is incomplete")
    var wrongBlock = frame
    wrongBlock[14] |= 6
    refused(wrongBlock, .malformed, "no zstd block")
    refused(SmallArchive.frame(Array(Self.content[..<1000]), stated: 2000), .malformed, "")
  }
}

/// zstd files that can only be read from the start.
@Suite struct SequentialSourceTests {
  @Test(arguments: [true, false]) func readsForwardAndRefusesToGoBackFar(stated: Bool) throws {
    let content = ForeignArchiveTests.content
    let bytes =
      SmallArchive.frame(Array(content[..<399_990]), stated: stated ? 399_990 : nil)
      + SmallArchive.frame(Array(content[399_990...]), stated: stated ? 10 : nil)
    let source = try SequentialZstdSource(MemorySource(bytes), mostRedone: 1000)
    #expect(source.byteCount == 400_000)
    #expect(try source.readBytes(0..<8) == Array(content[..<8]))
    #expect(try source.readBytes(0..<3000) == Array(content[..<3000]))
    #expect(try source.readBytes(200_000..<399_999) == Array(content[200_000..<399_999]))
    #expect(try source.readBytes(399_999..<400_000) == Array(content[399_999...]))
    let error = #expect(throws: CheckpointError.self) { for _ in 0..<20 { _ = try source.readBytes(5..<9) } }
    #expect(error?.code == .unsupported && error?.remedy?.contains("zstd -d") == true)
  }

  /// Concurrent readers arrive out of order; skipped bytes stay available as long as they fit in the buffer.
  @Test func concurrentReadersMayArriveOutOfOrder() throws {
    let content = ForeignArchiveTests.content
    let bytes = SmallArchive.frame(content, stated: UInt64(content.count))
    let source = try SequentialZstdSource(MemorySource(bytes), mostRedone: -1, window: 300_000)
    var generator = SeededGenerator(seed: 3)
    for start in stride(from: 0, to: content.count, by: 50_000) {
      for piece in (0..<5).shuffled(using: &generator) {
        let range = start + piece * 10_000..<start + (piece + 1) * 10_000
        #expect(try source.readBytes(range) == Array(content[range]))
      }
    }
    // Everything has been read, so going back would mean starting over, which is not allowed here.
    #expect(throws: CheckpointError.self) { try source.readBytes(0..<10) }

    let small = try SequentialZstdSource(MemorySource(bytes), mostRedone: -1, window: 50_000)
    #expect(try small.readBytes(200_000..<200_010) == Array(content[200_000..<200_010]))
    #expect(throws: CheckpointError.self) { try small.readBytes(1000..<1010) }
    let again = try SequentialZstdSource(MemorySource(bytes), mostRedone: 1 << 20, window: 50_000)
    #expect(try again.readBytes(200_000..<200_010) == Array(content[200_000..<200_010]))
    #expect(try again.readBytes(1000..<1010) == Array(content[1000..<1010]))
  }

  @Test func framesWithoutContentSizesAreMeasured() throws {
    let content = Array(ForeignArchiveTests.content[..<5000])
    var bytes = SmallArchive.frame(content, stated: nil)
    let source = try SequentialZstdSource(MemorySource(bytes))
    #expect(source.byteCount == 5000)
    bytes += SmallArchive.frame(content, stated: nil)
    #expect(try SequentialZstdSource(MemorySource(bytes)).byteCount == 10_000)
  }

  @Test func hostileAndReorderedFilesAreRefused() throws {
    let content = Array(ForeignArchiveTests.content[..<5000])
    func refused(_ bytes: [UInt8], _ code: CheckpointError.Code, _ words: String) {
      let error = #expect(throws: CheckpointError.self) {
        let source = try SequentialZstdSource(MemorySource(bytes, path: "x.zst"))
        _ = try source.readBytes(0..<source.byteCount)
      }
      #expect(error?.code == code && error?.path == "x.zst", "\(error?.description ?? "")")
      #expect(error?.message.contains(words) == true, "\(error?.description ?? "")")
    }
    refused(SmallArchive.frame(content, stated: nil, windowLog: 31), .unsupported, "window")
    let long = ForeignArchiveTests.content
    refused(SmallArchive.frame(long, stated: UInt64(long.count), windowLog: 31), .unsupported, "window")
    refused(Array(SmallArchive.frame(content, stated: nil).dropLast(7)), .truncated, "")
    refused(SmallArchive.frame(content, stated: 1 << 62), .malformed, "cannot decompress to")
    refused(Array("just some text".utf8), .malformed, "no zstd frame")
    refused(try ArchiveSourceTests.mixed().archive, .unsupported, "reordered")
  }
}
