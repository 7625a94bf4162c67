internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import Quantization
internal import QuantizationRecipes
internal import ShardPlanning
internal import TensorFormats

/// A unit that has been read, recoded and written; what is left to do is to hash it, in order.
struct ProcessedUnit: Sendable {
  let unit: WorkUnit
  /// The source's bytes, as they are in its file.
  let source: BufferPool.Buffer
  /// The same in little-endian order; nearly always the same buffer.
  let content: BufferPool.Buffer
  /// One result for each of the unit's deliveries.
  let results: [Result]

  struct Result: Sendable {
    let delivery: WorkUnit.Delivery
    let payload: Payload
    /// The difference between what was read and what the written bytes decode to.
    let errors: RecodingErrors
  }

  /// Where a delivery's bytes are.
  enum Payload: Sendable {
    /// In ``ProcessedUnit/content``: a copy.
    case content(Range<Int>)
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
  /// What the plan's importance names are looked up in.
  var importance: ImportanceMatrix?
  /// The largest magnitudes of matrices whose schemes have a scale for all of one.
  let maxima: MatrixMaxima

  /// - Throws: `.inputOutput` or `.truncated` if a file fails, `.nonFinite` for weights that are no numbers.
  ///   The error names the file and the tensor.
  func process(_ unit: WorkUnit) throws(CheckpointError) -> ProcessedUnit {
    do throws(CheckpointError) {
      return try make(unit)
    } catch {
      // What a file system says of the output has a path already.
      var named = error.at(path: checkpoint.files[unit.file].source.path)
      named.tensor =
        error.tensor ?? unit.deliveries.first.map { work.targets[$0.target].tensor.source.tensor }
      throw named
    }
  }

  private func make(_ unit: WorkUnit) throws(CheckpointError) -> ProcessedUnit {
    let file = checkpoint.files[unit.file]
    let source = pool.take(unit.byteRange.count)
    try source.fill { (span) throws(CheckpointError) in
      try file.source.read(into: &span, at: unit.byteRange.lowerBound)
    }
    let content = unit.view.map { littleEndian(source, file.byteOrder, $0.elementType) } ?? source
    var results: [ProcessedUnit.Result] = []
    if let view = unit.view {
      var recoder = UnitRecoder(
        unit: unit, view: view, stored: PackedRows(content, view),
        rows: try UnitRows(unit, view, content, of: self), processor: self)
      for delivery in unit.deliveries {
        let result = try recoder.deliver(delivery)
        try write(result, content)
        results.append(result)
      }
    }
    return ProcessedUnit(unit: unit, source: source, content: content, results: results)
  }

  /// The same elements in little-endian order.
  func littleEndian(
    _ source: BufferPool.Buffer, _ order: GGUFByteOrder, _ type: ElementType
  ) -> BufferPool.Buffer {
    guard order == .big else { return source }
    let swapped = pool.take(source.byteCount)
    swapped.fill { span in
      span.copy(source.bytes, to: 0)
      GGUFByteOrder.swapPayload(type, &span)
    }
    return swapped
  }

  private func write(_ result: ProcessedUnit.Result, _ content: BufferPool.Buffer) throws(CheckpointError) {
    let output = outputs[work.targets[result.delivery.target].file]
    switch result.payload {
    case .content(let range):
      try output.write(content.bytes.extracting(range), at: result.delivery.offset)
    case .recoded(let buffer):
      try output.write(buffer.bytes, at: result.delivery.offset)
    }
  }
}
