internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import Quantization
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
    let errors: ErrorSums
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

  /// - Throws: `.inputOutput` or `.truncated` if a file fails, `.nonFinite` for weights that are no numbers.
  func process(_ unit: WorkUnit) throws(CheckpointError) -> ProcessedUnit {
    let file = checkpoint.files[unit.file]
    let source = pool.take(unit.byteRange.count)
    try source.fill { (span) throws(CheckpointError) in
      try file.source.read(into: &span, at: unit.byteRange.lowerBound)
    }
    let content = littleEndian(source, file.byteOrder, unit.view)
    var results: [ProcessedUnit.Result] = []
    if let view = unit.view {
      let rows = try UnitRows(unit, view, content, of: self)
      for delivery in unit.deliveries {
        let result = try deliver(delivery, of: unit, view, rows)
        try write(result, content)
        results.append(result)
      }
    }
    return ProcessedUnit(unit: unit, source: source, content: content, results: results)
  }

  private func littleEndian(
    _ source: BufferPool.Buffer, _ order: GGUFByteOrder, _ view: SourceView?
  ) -> BufferPool.Buffer {
    guard order == .big, let view else { return source }
    let swapped = pool.take(source.byteCount)
    swapped.fill { span in
      span.copy(source.bytes, to: 0)
      GGUFByteOrder.swapPayload(view.elementType, &span)
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

// MARK: - Recoding

/// A unit's rows as they are recoded: the source's own, or F32 where they have been multiplied with their scales.
struct UnitRows {
  let elementType: ElementType
  let rowBytes: Int
  let buffer: BufferPool.Buffer

  init(
    _ unit: WorkUnit, _ view: SourceView, _ content: BufferPool.Buffer, of processor: UnitProcessor
  ) throws(CheckpointError) {
    guard let scale = view.scale else {
      (elementType, rowBytes, buffer) = (view.elementType, view.rowBytes, content)
      return
    }
    // Units of scaled tensors stay within one matrix, whose scales are a few kilobytes.
    let (matrix, firstRow) = unit.firstRow.quotientAndRemainder(dividingBy: view.matrixRows)
    let tiles = try BlockFP8(rows: view.matrixRows, columns: view.columns)
    let scales = try processor.scales(scale, matrix: matrix, count: tiles.scaleCount)
    let values = processor.pool.take(unit.rowCount * view.columns * MemoryLayout<Float>.stride)
    try values.fill { (span) throws(CheckpointError) in
      var floats = unsafe span._unsafeMutableView(as: Float.self)
      try tiles.decode(content.bytes, scales: scales.span, firstRow: firstRow, into: &floats)
    }
    (elementType, rowBytes, buffer) = (.f32, view.columns * MemoryLayout<Float>.stride, values)
  }
}

extension UnitProcessor {
  /// The scales of one matrix of a stack, as F32.
  fileprivate func scales(
    _ scale: ShardPlan.Scale, matrix: Int, count: Int
  ) throws(CheckpointError) -> [Float] {
    let bytes = count * scale.elementType.block.bytes
    let start = scale.offset + matrix * bytes
    let raw = try checkpoint.files[scale.file].source.readBytes(start..<start + bytes)
    guard let codec = BlockCodec.codec(for: scale.elementType) else {
      throw CheckpointError(.unsupported, "scales cannot be \(scale.elementType)", tensor: scale.tensor)
    }
    var values = [Float](repeating: 0, count: count)
    var span = values.mutableSpan
    try unsafe codec.decode(raw.span.bytes, into: &span)
    return values
  }

  private func deliver(
    _ delivery: WorkUnit.Delivery, of unit: WorkUnit, _ view: SourceView, _ rows: UnitRows
  ) throws(CheckpointError) -> ProcessedUnit.Result {
    let target = work.targets[delivery.target].tensor
    let whole = delivery.columns.count == view.columns
    if target.elementType == rows.elementType {
      if whole, delivery.runs.count == 1, view.scale == nil {
        let range = delivery.runs[0].lowerBound * rows.rowBytes..<delivery.runs[0].upperBound * rows.rowBytes
        return ProcessedUnit.Result(delivery: delivery, payload: .content(range), errors: ErrorSums())
      }
      let gathered = pool.take(delivery.byteCount)
      gathered.fill { span in
        var position = 0
        for run in delivery.runs {
          position += gather(run, delivery.columns, rows, into: &span, at: position)
        }
      }
      return ProcessedUnit.Result(delivery: delivery, payload: .recoded(gathered), errors: ErrorSums())
    }
    do throws(CheckpointError) {
      return try recode(delivery, of: unit, view, rows, as: target.elementType)
    } catch {
      var named = error.at(path: checkpoint.files[unit.file].source.path)
      named.tensor = target.source.tensor
      if error.code == .nonFinite, error.remedy == nil {
        named.remedy = "give --allow-nonfinite to pass such values on where the format can hold them"
      }
      throw named
    }
  }

  private func recode(
    _ delivery: WorkUnit.Delivery, of unit: WorkUnit, _ view: SourceView, _ rows: UnitRows,
    as type: ElementType
  ) throws(CheckpointError) -> ProcessedUnit.Result {
    let columns = delivery.columns.count
    let whole = columns == view.columns
    // Where rows do not matter, a run is one long row.
    let transcoder = try RowTranscoder(
      from: rows.elementType, to: type,
      columns: view.keepsRows ? columns : delivery.runs.reduce(0) { $0 + $1.count } * columns)
    var scratch = transcoder.makeScratch()
    let output = pool.take(delivery.byteCount)
    let errors = try output.fill { (span) throws(CheckpointError) -> ErrorSums in
      var sums = ErrorSums()
      var position = 0
      for run in delivery.runs {
        let count = view.keepsRows ? run.count : 1
        let bytes = delivery.byteCount / delivery.runs.reduce(0) { $0 + $1.count } * run.count
        var piece = span._mutatingExtracting(position..<position + bytes)
        if whole {
          let input = rows.buffer.bytes.extracting(
            run.lowerBound * rows.rowBytes..<run.upperBound * rows.rowBytes)
          sums.merge(
            try transcoder.transcode(
              input, rows: count, into: &piece, scratch: &scratch, nonFinite: nonFinite,
              firstRow: unit.firstRow + run.lowerBound))
        } else {
          let length = run.count * rowBytes(of: delivery.columns, rows.elementType)
          let gathered = pool.take(length)
          gathered.fill { span in _ = gather(run, delivery.columns, rows, into: &span, at: 0) }
          sums.merge(
            try transcoder.transcode(
              gathered.bytes, rows: count, into: &piece, scratch: &scratch, nonFinite: nonFinite,
              firstRow: unit.firstRow + run.lowerBound))
        }
        position += bytes
      }
      return sums
    }
    return ProcessedUnit.Result(delivery: delivery, payload: .recoded(output), errors: errors)
  }

  private func rowBytes(of columns: Range<Int>, _ type: ElementType) -> Int {
    columns.count / type.block.elements * type.block.bytes
  }

  /// Puts the wanted columns of a run of rows side by side. The planner cuts columns on block boundaries only.
  ///
  /// - Returns: The bytes written.
  private func gather(
    _ run: Range<Int>, _ columns: Range<Int>, _ rows: UnitRows, into target: inout MutableRawSpan,
    at offset: Int
  ) -> Int {
    let block = rows.elementType.block
    let start = columns.lowerBound / block.elements * block.bytes
    let length = rowBytes(of: columns, rows.elementType)
    let bytes = rows.buffer.bytes
    var position = offset
    for row in run {
      let first = row * rows.rowBytes + start
      target.copy(bytes.extracting(first..<first + length), to: position)
      position += length
    }
    return position - offset
  }
}

extension MutableRawSpan {
  /// Copies all of `source` to `offset`.
  @_lifetime(self: copy self)
  mutating func copy(_ source: RawSpan, to offset: Int) {
    precondition(offset >= 0 && offset + source.byteCount <= byteCount)
    unsafe withUnsafeMutableBytes { target in
      unsafe source.withUnsafeBytes {
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + $0.count]).copyMemory(
          from: $0)
      }
    }
  }
}
