import PlanTesting
import ByteStreams
import Checkpoint
import CheckpointTesting
import Conversion
import Dispatch
import ShardPlanning
import Synchronization
import TensorFormats
import Testing

/// The pipeline reads exactly what its units declare.
@Suite struct DeclaredReadsTests {
  private let harness: ConversionHarness

  init() throws { harness = try ConversionHarness() }

  /// Records every range that is read.
  private final class Record: Sendable {
    let reads = Mutex<[FileRange: Int]>([:])
  }

  private struct RecordingSource: ByteSource {
    let source: any ByteSource
    let file: Int
    let record: Record

    var path: String { source.path }
    var byteCount: Int { source.byteCount }

    func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
      let range = FileRange(file: file, bytes: offset..<offset + buffer.byteCount)
      record.reads.withLock { $0[range, default: 0] += 1 }
      try source.read(into: &buffer, at: offset)
    }
  }

  /// Converts and returns the ranges that were read and those that were declared.
  private func reads(
    _ fixture: String, _ request: ConversionHarness.Request
  ) async throws -> (read: [FileRange: Int], declared: DeclaredReads) {
    let planned = try harness.plan(fixture, request)
    let record = Record()
    let numbers = Mutex(0)
    let checkpoint = planned.checkpoint.mappingSources { source in
      let file = numbers.withLock { number in
        defer { number += 1 }
        return number
      }
      return RecordingSource(source: source, file: file, record: record)
    }
    _ = try await Conversion(planned.reading(checkpoint), options: ConversionOptions(threads: 2))
      .run(into: harness.directory.path("output"))
    return (record.reads.withLock { $0 }, try DeclaredReads(planned))
  }

  @Test(
    "exactly the declared ranges are read, each as often as declared",
    arguments: [
      ("tiny", "BF16", Checkpoint.Format.gguf), ("tiny", "Q8_0", .gguf), ("tiny-fp8", "BF16", .safetensors),
      ("tiny-fp8", "keep", .safetensors), ("odd-fp8", "F16", .gguf), ("tiny", "FP8_BLOCK", .safetensors),
      ("tiny", "W4A16_G32", .safetensors),
    ])
  func exact(fixture: String, recipe: String, format: Checkpoint.Format) async throws {
    let (read, declared) = try await reads(
      Fixtures.path("checkpoints/\(fixture)"), ConversionHarness.Request(format: format, recipe: recipe))
    #expect(read == declared.units)
  }

  @Test("a matrix that fits into the window is read once, although its scale needs all of it")
  func measuredOnce() async throws {
    let (read, declared) = try await reads(
      Fixtures.path("checkpoints/tiny"), ConversionHarness.Request(recipe: "NVFP4A16"))
    let undeclared = read.compactMap { range, count -> (FileRange, Int)? in
      let more = count - (declared.units[range] ?? 0)
      return more == 0 ? nil : (range, more)
    }
    let allowed = declared.scans
    #expect(!undeclared.isEmpty && undeclared.allSatisfy { allowed.contains($0.0) && $0.1 == 1 })
    // In a group of two, one is measured while it is read; single matrices need no second read at all.
    let scanned = undeclared.reduce(0) { $0 + $1.0.bytes.count }
    let all = allowed.reduce(0) { $0 + $1.bytes.count }
    #expect(scanned * 2 < all, "\(scanned) of \(all) bytes were read a second time")
  }

  @Test("an output file that equals a source file is hashed once, and a changed one separately")
  func twins() async throws {
    let first = harness.directory.path("first")
    let request = ConversionHarness.Request(maximumShardBytes: 3_000_000)
    _ = try await Conversion(
      harness.plan(Fixtures.path("checkpoints/tiny"), request), options: ConversionOptions(threads: 2)
    ).run(into: first)
    let planned = try harness.plan(first, request)
    let plan = planned.plan
    #expect(plan.files.count > 2)
    #expect(plan.files.enumerated().allSatisfy { plan.source.twin(of: $1) == $0 })
    let manifest = try await Conversion(planned, options: ConversionOptions(threads: 2))
      .run(into: harness.directory.path("second")).manifest
    for record in manifest.files where record.path.hasSuffix(".safetensors") {
      let bytes = try InputFile(harness.directory.path("second/\(record.path)")).readBytes(0..<record.bytes)
      var xxh3 = XXH3Digester()
      var sha256 = SHA256Digester()
      xxh3.update(bytes)
      #expect("\(xxh3.finalize())" == record.xxh3)
      sha256.update(bytes)
      #expect("\(sha256.finalize())" == record.sha256)
    }
    var moved = plan.files[0]
    moved.tensors[1].source.offset += 2
    #expect(plan.source.twin(of: moved) == nil)
    var other = plan.files[0]
    other.headerXXH3 = plan.files[1].headerXXH3
    #expect(plan.source.twin(of: other) == nil)
    var recoded = plan.files[0]
    recoded.tensors[0].operation = .convert(importance: nil)
    #expect(plan.source.twin(of: recoded) == nil)
    let published = try harness.plan(Fixtures.path("checkpoints/tiny"), request).plan
    #expect(published.files.allSatisfy { published.source.twin(of: $0) == nil })
  }

  /// Lets the first two reads proceed only once both have started.
  private final class Pair: Sendable {
    private let state = Mutex((arrived: 0, met: false))
    private let both = DispatchSemaphore(value: 0)

    var met: Bool { state.withLock { $0.met } }

    func arrive() {
      let number = state.withLock { state in
        state.arrived += 1
        return state.arrived
      }
      if number == 2 {
        state.withLock { $0.met = true }
        both.signal()
      } else if number == 1 {
        // A read that waits in vain fails the test instead of hanging.
        _ = both.wait(timeout: .now() + 30)
      }
    }
  }

  private struct PairedSource: ByteSource {
    let source: any ByteSource
    let pair: Pair

    var path: String { source.path }
    var byteCount: Int { source.byteCount }

    func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
      pair.arrive()
      try source.read(into: &buffer, at: offset)
    }
  }

  @Test("reads overlap although only one thread computes") func latency() async throws {
    let planned = try harness.plan(
      Fixtures.path("checkpoints/tiny"), ConversionHarness.Request(format: .gguf, recipe: "Q8_0"))
    let pair = Pair()
    let checkpoint = planned.checkpoint.mappingSources { PairedSource(source: $0, pair: pair) }
    _ = try await Conversion(planned.reading(checkpoint), options: ConversionOptions(threads: 1))
      .run(into: harness.directory.path("output"))
    #expect(pair.met)
  }
}
