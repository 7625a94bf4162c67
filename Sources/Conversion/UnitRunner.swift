internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import Synchronization
internal import TensorFormats

/// Runs one unit after the other: processes it and notes that in the journal, or finds that it is done already.
struct UnitRunner: Sendable {
  let processor: UnitProcessor
  /// `nil` for a rehearsal, of which nothing is kept.
  let journal: Journal?
  /// All the time in units, of which reading and writing are a part.
  let meter: Meter
  let tally: Tally

  /// Counts units. A class, because the tasks of a run share it.
  final class Tally: Sendable {
    fileprivate let processed = Atomic<Int>(0)
    fileprivate let found = Atomic<Int>(0)

    /// Units so far.
    var total: Int { processed.load(ordering: .relaxed) }
    /// Those among them that were done already.
    var reused: Int { found.load(ordering: .relaxed) }
  }

  /// - Throws: As ``UnitProcessor/process(_:)``; `.sourceChanged` if a finished unit was made from other bytes.
  func run(_ unit: WorkUnit, number: Int) throws(CheckpointError) -> ProcessedUnit {
    tally.processed.add(1, ordering: .relaxed)
    return try meter.measure { () throws(CheckpointError) in
      if let record = journal?.finished[number], let done = try recheck(unit, record) {
        tally.found.add(1, ordering: .relaxed)
        return done
      }
      let result = try processor.process(unit)
      note(result, number: number)
      return result
    }
  }

  private func note(_ processed: ProcessedUnit, number: Int) {
    guard let journal else { return }
    let deliveries = processed.results.map { result in
      UnitRecord.Delivery(
        xxh3: result.withBytes(processed.content) { Digest.xxh3(of: $0) }, errors: result.errors)
    }
    journal.add(
      UnitRecord(source: .xxh3(of: processed.source.bytes), deliveries: deliveries), of: number,
      files: processed.results.map { processor.work.targets[$0.delivery.target].file },
      bytes: processed.results.reduce(0) { $0 + $1.delivery.byteCount })
  }

  /// Reads what a finished unit was made from, for the digests of the source, and what it left in the output.
  ///
  /// - Returns: `nil` if the output does not hold what the journal says.
  private func recheck(_ unit: WorkUnit, _ record: UnitRecord) throws(CheckpointError) -> ProcessedUnit? {
    guard record.deliveries.count == unit.deliveries.count else { return nil }
    let file = processor.checkpoint.files[unit.file].source
    let source = processor.pool.take(unit.byteRange.count)
    try source.fill { (span) throws(CheckpointError) in
      try file.read(into: &span, at: unit.byteRange.lowerBound)
    }
    guard .xxh3(of: source.bytes) == record.source else {
      throw CheckpointError(
        .sourceChanged, "the source has changed since the conversion was begun", path: file.path,
        offset: unit.byteRange.lowerBound, remedy: "bring it back, or start afresh with --overwrite")
    }
    var results: [ProcessedUnit.Result] = []
    for (delivery, expected) in zip(unit.deliveries, record.deliveries) {
      let output = processor.outputs[processor.work.targets[delivery.target].file]
      let written = processor.pool.take(delivery.byteCount)
      do throws(CheckpointError) {
        try written.fill { (span) throws(CheckpointError) in try output.read(into: &span, at: delivery.offset)
        }
      } catch {
        // What cannot be read can perhaps be written anew.
        return nil
      }
      guard .xxh3(of: written.bytes) == expected.xxh3 else { return nil }
      results.append(
        ProcessedUnit.Result(delivery: delivery, payload: .recoded(written), errors: expected.errors))
    }
    return ProcessedUnit(unit: unit, source: source, content: source, results: results)
  }
}

extension ProcessedUnit.Result {
  /// Shows `body` the bytes that were written.
  ///
  /// - Parameter content: ``ProcessedUnit/content`` of the unit that this is a result of.
  func withBytes<Failure: Error, Value>(
    _ content: BufferPool.Buffer, _ body: (RawSpan) throws(Failure) -> Value
  ) throws(Failure) -> Value {
    switch payload {
    case .content(let range): try body(content.bytes.extracting(range))
    case .recoded(let buffer): try body(buffer.bytes)
    }
  }
}
