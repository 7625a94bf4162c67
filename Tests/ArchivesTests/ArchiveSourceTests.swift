import Archives
import ByteStreams
import CheckpointTesting
import Foundation
import GGUF
import Safetensors
import TensorFormats
import Testing

/// Archives are read like the files that they stand for.
@Suite struct ArchiveSourceTests {
  /// A file with a header, tensors of several types, gaps between them and a tail that belongs to no tensor.
  static func mixed() throws -> (original: [UInt8], archive: [UInt8]) {
    var original = Array(String(repeating: "{\"header\": 1}", count: 50).utf8)
    var tensors: [(range: Range<Int>, elementType: ElementType)] = []
    for (index, (type, count)) in [
      (ElementType.bf16, 300_000), (.f32, 100_001), (.u8, 5), (.f8E4M3, 0), (.bf16, 1), (.q4K, 144 * 300),
    ].enumerated() {
      let bytes = Weights.bytes(type, count: count, seed: UInt64(index))
      tensors.append((original.count..<original.count + bytes.count, type))
      original += bytes + [UInt8](repeating: 0, count: index * 7)
    }
    let layout = try #require(ArchiveLayout(byteCount: original.count, tensors: tensors))
    return (original, try SmallArchive.make(original, layout))
  }

  @Test func anyRangeReadsAsInTheOriginal() throws {
    let (original, archive) = try Self.mixed()
    let source = try ArchiveSource(MemorySource(archive))
    #expect(source.byteCount == original.count && source.archiveByteCount == archive.count)
    #expect(archive.count < original.count * 8 / 10)
    #expect(try source.readBytes(0..<original.count) == original)
    #expect(Array(source.pieces.joined()) == Array(0..<original.count))
    var generator = SeededGenerator(seed: 5)
    for _ in 0..<300 {
      let start = Int.random(in: 0...original.count, using: &generator)
      let length = min(
        Int.random(in: 0...[10, 3000, 700_000].randomElement(using: &generator)!, using: &generator),
        original.count - start)
      #expect(try source.readBytes(start..<start + length) == Array(original[start..<start + length]))
    }
    let error = #expect(throws: CheckpointError.self) {
      try source.readBytes(original.count - 1..<original.count + 1)
    }
    #expect(error?.code == .truncated)
  }

  @Test func manyThreadsReadTheSameBytes() throws {
    let (original, archive) = try Self.mixed()
    let source = try ArchiveSource(MemorySource(archive))
    DispatchQueue.concurrentPerform(iterations: 16) { thread in
      var generator = SeededGenerator(seed: UInt64(thread))
      for _ in 0..<40 {
        let start = Int.random(in: 0..<original.count, using: &generator)
        let length = min(Int.random(in: 1...300_000, using: &generator), original.count - start)
        #expect((try? source.readBytes(start..<start + length)) == Array(original[start..<start + length]))
      }
    }
  }

  /// A read fetches only the pieces that it needs.
  @Test func readsOnlyThePiecesItNeeds() throws {
    let (original, archive) = try Self.mixed()
    let counting = CountingSource(MemorySource(archive))
    let source = try ArchiveSource(counting)
    // The seek table and the map.
    #expect(counting.reads <= 3)
    counting.reset()
    _ = try source.readBytes(700..<710)
    #expect(counting.reads == 1 && counting.bytes < 200_000)
    _ = try source.readBytes(710..<7000)
    #expect(counting.reads == 1, "the piece is still cached")
    counting.reset()
    _ = try source.readBytes(0..<original.count)
    #expect(counting.bytes <= archive.count)
  }

  @Test(arguments: ["tiny", "odd"]) func safetensorsHeadersReadThroughAnArchive(name: String) throws {
    let directory = Fixtures.path("checkpoints/\(name)")
    let names = try FileSystem.names(in: directory).filter { $0.hasSuffix(".safetensors") }
    try #require(!names.isEmpty)
    for name in names {
      let file = try InputFile("\(directory)/\(name)")
      let header = try SafetensorsHeader.read(from: file)
      let original = try file.readBytes(0..<file.byteCount)
      let layout = try #require(
        ArchiveLayout(
          byteCount: original.count, tensors: header.tensors.map { ($0.byteRange, $0.elementType) }))
      let source = try ArchiveSource(MemorySource(SmallArchive.make(original, layout)))
      #expect(try SafetensorsHeader.read(from: source) == header)
      for tensor in header.tensors {
        #expect(try source.readBytes(tensor.byteRange) == file.readBytes(tensor.byteRange))
      }
    }
  }

  @Test func ggufHeaderReadsThroughAnArchive() throws {
    let data = Weights.bytes(.f32, count: 4096, seed: 1)
    let plan = try GGUFLayout(
      metadata: GGUFMetadata(),
      tensors: [.init(name: "a", elementType: .f32, shape: try #require(TensorShape(checking: [64, 64])))])
    let original = plan.headerBytes + data
    let layout = try #require(
      ArchiveLayout(
        byteCount: original.count, tensors: plan.header.tensors.map { ($0.byteRange, $0.elementType) }))
    let source = try ArchiveSource(MemorySource(SmallArchive.make(original, layout)))
    #expect(try GGUFHeader.read(from: source) == plan.header)
  }

  @Test func flippedBitsAreNoticedAndLocal() throws {
    let (original, archive) = try Self.mixed()
    let pieces = Array(try ArchiveSource(MemorySource(archive)).pieces)
    var generator = SeededGenerator(seed: 6)
    for _ in 0..<120 {
      let place = Int.random(in: 0..<archive.count, using: &generator)
      var damaged = archive
      damaged[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      let source: ArchiveSource
      do {
        source = try ArchiveSource(MemorySource(damaged, path: "x.zst"))
      } catch {
        #expect(error.path == "x.zst")
        continue
      }
      var failed = 0
      for piece in pieces where piece.upperBound <= source.byteCount {
        do {
          #expect(try source.readBytes(piece) == Array(original[piece]), "silently wrong, byte \(place)")
        } catch {
          failed += 1
          #expect(error.code == .malformed && error.path == "x.zst" && error.offset != nil)
          #expect(error.message.contains("\(piece.lowerBound) to \(piece.upperBound) of the original"))
        }
      }
      #expect(failed <= 1)
    }
  }

  @Test func layoutCoversEverything() throws {
    #expect(ArchiveLayout(byteCount: 10, tensors: [(0..<6, .u8), (5..<10, .u8)]) == nil)
    #expect(ArchiveLayout(byteCount: 10, tensors: [(5..<11, .u8)]) == nil)
    #expect(ArchiveLayout(byteCount: 0).sections.isEmpty)
    let layout = try #require(
      ArchiveLayout(
        byteCount: 600_000, tensors: [(400_000..<400_010, .bf16), (8..<300_000, .f32), (9..<9, .u8)]))
    #expect(
      layout.sections.map(\.range) == [
        0..<8, 8..<300_000, 300_000..<400_000, 400_000..<400_010, 400_010..<600_000,
      ])
    #expect(layout.sections.map(\.elementType) == [nil, .f32, nil, .bf16, nil])
    #expect(layout.sections.flatMap { Array($0.pieces) }.allSatisfy { $0.count <= 262_144 && !$0.isEmpty })
  }
}

/// Counts the reads of another source. `@unchecked Sendable`: used by one thread.
private final class CountingSource: ByteSource, @unchecked Sendable {
  private let source: any ByteSource
  private(set) var reads = 0
  private(set) var bytes = 0

  init(_ source: any ByteSource) { self.source = source }
  var path: String { source.path }
  var byteCount: Int { source.byteCount }
  func reset() { (reads, bytes) = (0, 0) }

  func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    reads += 1
    bytes += buffer.byteCount
    try source.read(into: &buffer, at: offset)
  }
}
