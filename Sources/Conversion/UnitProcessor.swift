internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import ShardPlanning
internal import TensorFormats

/// A unit that has been read, recoded and written; what is left to do is to hash it, in order.
struct ProcessedUnit: Sendable {
  let unit: WorkUnit
  /// The source's bytes.
  let source: BufferPool.Buffer
  /// One result for each of the unit's deliveries.
  let results: [Result]

  struct Result: Sendable {
    let delivery: WorkUnit.Delivery
    let payload: Payload
    /// The difference between what was read and what the written bytes decode to.
    let errors: ErrorSums
  }

  /// Where a delivery's bytes are.
  enum Payload: Sendable {
    /// In the source's own buffer: a copy.
    case source(Range<Int>)
    case recoded(BufferPool.Buffer)
  }
}

/// Reads a unit, recodes its rows and writes them to their final place. Any number may run at a time.
struct UnitProcessor: Sendable {
  let checkpoint: Checkpoint
  let work: WorkList
  let outputs: [OutputFile]
  let pool: BufferPool
  let nonFinite: NonFinitePolicy

  /// - Throws: `.inputOutput` or `.truncated` if a file fails, `.nonFinite` for weights that are no numbers.
  func process(_ unit: WorkUnit) throws(CheckpointError) -> ProcessedUnit {
    let file = checkpoint.files[unit.file]
    let source = pool.take(unit.byteRange.count)
    try source.fill { (span) throws(CheckpointError) in
      try file.source.read(into: &span, at: unit.byteRange.lowerBound)
    }
    var results: [ProcessedUnit.Result] = []
    for delivery in unit.deliveries {
      guard let view = unit.view else { break }
      let result = try deliver(delivery, of: unit, view, from: source)
      try write(result, source)
      results.append(result)
    }
    return ProcessedUnit(unit: unit, source: source, results: results)
  }

  private func write(_ result: ProcessedUnit.Result, _ source: BufferPool.Buffer) throws(CheckpointError) {
    let output = outputs[work.targets[result.delivery.target].file]
    switch result.payload {
    case .source(let range):
      try output.write(source.bytes.extracting(range), at: result.delivery.offset)
    case .recoded(let buffer):
      try output.write(buffer.bytes, at: result.delivery.offset)
    }
  }
}

// MARK: - Recoding

extension UnitProcessor {
  private func deliver(
    _ delivery: WorkUnit.Delivery, of unit: WorkUnit, _ view: SourceView, from source: BufferPool.Buffer
  ) throws(CheckpointError) -> ProcessedUnit.Result {
    let target = work.targets[delivery.target].tensor
    let whole = delivery.columns.count == view.columns
    if target.elementType == view.elementType, view.scale == nil {
      if whole, delivery.runs.count == 1 {
        let rows = delivery.runs[0]
        let range = rows.lowerBound * view.rowBytes..<rows.upperBound * view.rowBytes
        return ProcessedUnit.Result(delivery: delivery, payload: .source(range), errors: ErrorSums())
      }
      let gathered = gather(delivery, view, from: source.bytes)
      return ProcessedUnit.Result(delivery: delivery, payload: .recoded(gathered), errors: ErrorSums())
    }
    let recoded = pool.take(delivery.byteCount)
    var errors = ErrorSums()
    do throws(CheckpointError) {
      errors = try recode(delivery, of: unit, view, from: source, into: recoded)
    } catch {
      var named = error.at(path: checkpoint.files[unit.file].source.path)
      named.tensor = target.source.tensor
      throw named
    }
    return ProcessedUnit.Result(delivery: delivery, payload: .recoded(recoded), errors: errors)
  }

  /// The delivered rows and columns, put side by side in the source's own type.
  private func gather(_ delivery: WorkUnit.Delivery, _ view: SourceView, from bytes: RawSpan) -> BufferPool.Buffer {
    let block = view.elementType.block
    // The planner cuts columns on block boundaries only.
    let start = delivery.columns.lowerBound / block.elements * block.bytes
    let length = delivery.columns.count / block.elements * block.bytes
    let rows = delivery.runs.reduce(0) { $0 + $1.count }
    let buffer = pool.take(rows * length)
    buffer.fill { target in
      var position = 0
      for run in delivery.runs {
        for row in run {
          target.copy(bytes.extracting(row * view.rowBytes + start..<row * view.rowBytes + start + length), to: position)
          position += length
        }
      }
    }
    return buffer
  }
}

extension MutableRawSpan {
  /// Copies all of `source` to `offset`.
  @_lifetime(self: copy self)
  mutating func copy(_ source: RawSpan, to offset: Int) {
    precondition(offset >= 0 && offset + source.byteCount <= byteCount)
    unsafe withUnsafeMutableBytes { target in
      unsafe source.withUnsafeBytes {
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + $0.count]).copyMemory(from: $0)
      }
    }
  }
}
