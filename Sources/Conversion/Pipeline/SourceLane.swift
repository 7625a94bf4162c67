internal import ByteStreams
internal import TensorFormats

/// The digests of one source file on disk, computed as its bytes pass, in order.
struct SourceLane: Sendable {
  let path: String
  let byteCount: Int
  let meter: Meter
  let input = LaneInput<HeldUnit>()

  /// Runs until the file is complete, or the input finished.
  func run() async throws -> LaneReport {
    var digester = FileDigester(reading: path)
    if byteCount > 0 {
      for await held in input.elements {
        let unit = held.unit
        try meter.measure { () throws(CheckpointError) in
          try digester.add(unit.source.bytes, at: unit.unit.source.bytes.lowerBound)
        }
        // Its digest can be compared now, hours before the last file's.
        if digester.byteCount == byteCount { break }
      }
    }
    // A cancelled task sees its input end early.
    try Task.checkCancellation()
    return LaneReport(digests: digester.finish(byteCount: byteCount), tensors: [])
  }
}
