internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import TensorFormats

/// Makes the output of units that have been read. It does no file I/O.
struct UnitMaker: Sendable {
  let context: UnitContext

  /// Makes a unit's deliveries.
  ///
  /// - Parameter maximum: The largest magnitude that ``WorkUnit/maximum`` asks for.
  /// - Throws: `.nonFinite` for non-finite weights. The error names the file and the tensor.
  func make(_ fetched: FetchedUnit, maximum: Float?) throws(CheckpointError) -> ProcessedUnit {
    let unit = fetched.unit
    do throws(CheckpointError) {
      let order = context.checkpoint.files[unit.source.file].byteOrder
      let content =
        unit.view.map { context.littleEndian(fetched.source, order, $0.elementType) } ?? fetched.source
      var results: [ProcessedUnit.Result] = []
      if let view = unit.view {
        var recoder = try UnitRecoder(fetched, view, content, maximum: maximum, context)
        for delivery in unit.deliveries { results.append(try recoder.deliver(delivery)) }
      }
      var processed = ProcessedUnit(unit: unit, source: fetched.source, content: content, results: results)
      if context.journal != nil { processed.record = record(processed) }
      return processed
    } catch {
      throw context.locating(error, unit)
    }
  }

  private func record(_ processed: ProcessedUnit) -> UnitRecord {
    let source = Digest.xxh3(of: processed.source.bytes)
    let whole = 0..<processed.source.byteCount
    return UnitRecord(
      source: source,
      deliveries: processed.results.map { result in
        // A copy of everything has the same digest.
        if case .content(whole) = result.payload, processed.content === processed.source {
          return UnitRecord.Delivery(xxh3: source, errors: result.errors)
        }
        return UnitRecord.Delivery(
          xxh3: result.withBytes(processed.content) { Digest.xxh3(of: $0) }, errors: result.errors)
      })
  }

  /// Takes over an earlier run's result for a unit, if it is in the journal and the output still holds it.
  ///
  /// - Returns: `nil` if it has to be made again.
  /// - Throws: `.sourceChanged` if it was made from other bytes.
  func recheck(_ fetched: FetchedUnit) throws(CheckpointError) -> ProcessedUnit? {
    guard let written = fetched.written else { return nil }
    let unit = fetched.unit
    guard .xxh3(of: fetched.source.bytes) == written.record.source else {
      throw CheckpointError(
        .sourceChanged, "the source has changed since the conversion was begun",
        path: context.checkpoint.files[unit.source.file].source.path, offset: unit.source.bytes.lowerBound,
        remedy: "restore it, or start afresh with --overwrite")
    }
    guard let results = results(unit, written) else { return nil }
    return ProcessedUnit(unit: unit, source: fetched.source, content: fetched.source, results: results)
  }

  /// Takes over what a share or an earlier run has written, without reading the source.
  ///
  /// - Throws: `.digestMismatch` if the output no longer holds it.
  func readBack(_ unit: WorkUnit, _ written: WrittenUnit) throws(CheckpointError) -> ProcessedUnit {
    guard let results = results(unit, written) else {
      throw context.locating(
        CheckpointError(
          .digestMismatch, "the output no longer holds what was written for it", remedy: Self.remaking),
        unit)
    }
    let nothing = context.pool.take(0)
    return ProcessedUnit(unit: unit, source: nothing, content: nothing, results: results)
  }

  static let remaking =
    "if the shares were sealed, run the plan with --resume and without --share to redo what is damaged; otherwise "
    + "start afresh with --overwrite"

  /// - Returns: `nil` if the output holds something else.
  private func results(_ unit: WorkUnit, _ written: WrittenUnit) -> [ProcessedUnit.Result]? {
    var results: [ProcessedUnit.Result] = []
    for (index, delivery) in unit.deliveries.enumerated() {
      let expected = written.record.deliveries[index]
      let buffer = written.deliveries[index]
      guard .xxh3(of: buffer.bytes) == expected.xxh3 else { return nil }
      results.append(
        ProcessedUnit.Result(
          delivery: delivery, payload: .recoded(buffer), errors: expected.errors))
    }
    return results
  }
}
