import Checkpoint
import CheckpointTesting
import Foundation
import Inspection
import ParallelWork
import Synchronization
import TensorFormats
import Testing

@Suite("statistics of tensors") struct StatisticsReportTests {
  private func checkpoint(_ file: WeightFile) throws -> (Checkpoint, TemporaryDirectory) {
    let directory = try TemporaryDirectory()
    try file.write(to: directory.path("w.safetensors"))
    return (try Checkpoint.open(directory.path("w.safetensors")), directory)
  }

  private func report(
    _ checkpoint: Checkpoint, threads: Int = 2, monitor: WorkMonitor = WorkMonitor()
  ) async throws -> StatisticsReport {
    try await StatisticsReport(
      of: checkpoint, tensors: checkpoint.tensors, threads: threads, monitor: monitor)
  }

  @Test func tensorsSpanUnitsAndShareThem() async throws {
    var file = WeightFile()
    // More than one unit of a mebibyte, then more tensors than fit into a unit.
    file.add("large", "F32", (0..<700_000).map { Float($0 % 1000) })
    for index in 0..<300 { file.add("small.\(index)", "U8", [UInt8(index % 200), 255]) }
    let (checkpoint, directory) = try checkpoint(file)
    let seen = Mutex((bytes: 0, names: [String]()))
    let monitor = WorkMonitor(
      advance: { bytes in seen.withLock { $0.bytes += bytes } },
      item: { name in seen.withLock { $0.names.append(name) } })
    let found = try await report(checkpoint, threads: 3, monitor: monitor)
    #expect(found.tensors.map(\.name) == checkpoint.tensors.map(\.name))
    #expect(found.tensors[0].values?.count == 700_000 && found.tensors[0].values?.zeros == 700)
    #expect(found.tensors[0].values?.mean == 499.5)
    for index in 0..<300 {
      #expect(found.tensors[index + 1].values?.minimum == .integer(Int128(index % 200)))
      #expect(found.tensors[index + 1].values?.maximum == .integer(255))
    }
    #expect(seen.withLock { $0.bytes } == checkpoint.tensors.reduce(0) { $0 + $1.byteRange.count })
    #expect(seen.withLock { $0.names.sorted() } == checkpoint.tensors.map(\.name).sorted())
    let other = try await report(checkpoint, threads: 1)
    #expect(found.tensors.map(\.xxh3) == other.tensors.map(\.xxh3))
    #expect(found.tensors.map(\.values) == other.tensors.map(\.values))
    withExtendedLifetime(directory) {}
  }

  @Test func cancellingEndsIt() async throws {
    var file = WeightFile()
    file.add("large", "U8", [UInt8](repeating: 1, count: 8 << 20))
    let (checkpoint, directory) = try checkpoint(file)
    let read = Mutex(0)
    let task = Task {
      while !Task.isCancelled { await Task.yield() }
      return try await report(
        checkpoint, monitor: WorkMonitor(advance: { bytes in read.withLock { $0 += bytes } }))
    }
    task.cancel()
    let result = await task.result
    #expect(throws: CancellationError.self) { _ = try result.get() }
    #expect(read.withLock { $0 } == 0)
    withExtendedLifetime(directory) {}
  }

  @Test func aFileThatShrinksIsAnError() async throws {
    let directory = try TemporaryDirectory()
    let path = directory.path("w.safetensors")
    var file = WeightFile()
    file.add("w", "F32", [Float](repeating: 1, count: 1 << 20))
    try file.write(to: path)
    let checkpoint = try Checkpoint.open(path)
    let handle = try #require(FileHandle(forWritingAtPath: path))
    try handle.truncate(atOffset: 4096)
    let error = await #expect(throws: CheckpointError.self) { _ = try await report(checkpoint) }
    #expect(error?.code == .truncated || error?.code == .inputOutput)
  }
}
