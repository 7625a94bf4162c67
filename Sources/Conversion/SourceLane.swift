internal import AsyncAlgorithms
internal import ByteStreams
internal import TensorFormats

/// The digests of one source file, computed as its bytes pass, in order.
struct SourceLane: Sendable {
  let path: String
  let byteCount: Int
  let meter: Meter
  /// Whether the file is on disk. What is made of other files on the way has no digest of its own.
  let isOnDisk: Bool
  let units = AsyncChannel<ProcessedUnit>()

  /// Runs until the file is complete, or the channel finished.
  func run() async throws -> LaneReport {
    guard isOnDisk else {
      for await _ in units {}
      try Task.checkCancellation()
      return LaneReport(digests: FileDigester(path: path).finish(byteCount: 0), tensors: [])
    }
    var digester = FileDigester(path: path)
    for await unit in units {
      try meter.measure { () throws(CheckpointError) in
        try digester.add(unit.source.bytes, at: unit.unit.byteRange.lowerBound)
      }
      // Its digest can be compared now, hours before the last file's.
      if digester.byteCount == byteCount { break }
    }
    // A cancelled task sees its channel end early.
    try Task.checkCancellation()
    return LaneReport(digests: digester.finish(byteCount: byteCount), tensors: [])
  }
}
