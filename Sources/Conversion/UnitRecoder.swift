internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import QuantizationRecipes
internal import ShardPlanning
internal import TensorFormats

/// Makes the bytes of a unit's deliveries out of its rows.
///
/// Deliveries that come to the same bytes are made once: a tensor that several parts have all of, and the codes and
/// scales of block-FP8, which are two tensors made of one set of rows.
struct UnitRecoder {
  let unit: WorkUnit
  let view: SourceView
  let rows: UnitRows
  let processor: UnitProcessor

  private var made: [Form: Made] = [:]

  init(unit: WorkUnit, view: SourceView, rows: UnitRows, processor: UnitProcessor) {
    self.unit = unit
    self.view = view
    self.rows = rows
    self.processor = processor
  }

  /// What the bytes of a delivery depend on, besides the unit.
  private struct Form: Hashable {
    let elementType: ElementType
    let derivation: ShardPlan.Derivation
    let importance: String?
    let runs: [Range<Int>]
    let columns: Range<Int>
  }

  private struct Made {
    let payload: ProcessedUnit.Payload
    let errors: ErrorSums
  }

  /// - Throws: `.nonFinite` for weights that are no numbers, naming the tensor.
  mutating func deliver(_ delivery: WorkUnit.Delivery) throws(CheckpointError) -> ProcessedUnit.Result {
    let target = processor.work.targets[delivery.target].tensor
    let form = Form(
      elementType: target.elementType, derivation: target.derivation, importance: target.importance,
      runs: delivery.runs, columns: delivery.columns)
    if made[form] == nil {
      do throws(CheckpointError) {
        try make(form, delivery)
      } catch {
        var named = error.at(path: processor.checkpoint.files[unit.file].source.path)
        named.tensor = target.source.tensor
        if error.code == .nonFinite, error.remedy == nil, target.derivation == .values {
          named.remedy = "give --allow-nonfinite to pass such values on where the format can hold them"
        }
        throw named
      }
    }
    guard let result = made[form] else { preconditionFailure("the form was made above") }
    return ProcessedUnit.Result(delivery: delivery, payload: result.payload, errors: result.errors)
  }

  private mutating func make(_ form: Form, _ delivery: WorkUnit.Delivery) throws(CheckpointError) {
    switch form.derivation {
    case .blockFP8Codes, .blockFP8Scales: try encodeBlockFP8(form)
    case .values where form.elementType == rows.elementType: made[form] = copy(form, delivery)
    case .values: made[form] = try recode(form, delivery)
    }
  }
}

// MARK: - Copying

extension UnitRecoder {
  private func copy(_ form: Form, _ delivery: WorkUnit.Delivery) -> Made {
    let isWhole = form.columns.count == view.columns
    if isWhole, form.runs.count == 1, rows.areSource {
      let range = form.runs[0].lowerBound * rows.rowBytes..<form.runs[0].upperBound * rows.rowBytes
      return Made(payload: .content(range), errors: ErrorSums())
    }
    let gathered = processor.pool.take(delivery.byteCount)
    gathered.fill { span in
      var position = 0
      for run in form.runs { position += rows.gather(run, form.columns, into: &span, at: position) }
    }
    return Made(payload: .recoded(gathered), errors: ErrorSums())
  }
}

// MARK: - Converting

extension UnitRecoder {
  private func recode(_ form: Form, _ delivery: WorkUnit.Delivery) throws(CheckpointError) -> Made {
    let columns = form.columns.count
    let rowCount = form.runs.reduce(0) { $0 + $1.count }
    // Where rows do not matter, a run is one long row.
    let transcoder = try RowTranscoder(
      from: rows.elementType, to: form.elementType, columns: view.keepsRows ? columns : rowCount * columns,
      importance: try weights(form))
    var scratch = transcoder.makeScratch()
    let output = processor.pool.take(delivery.byteCount)
    let errors = try output.fill { (span) throws(CheckpointError) -> ErrorSums in
      var sums = ErrorSums()
      var position = 0
      for run in form.runs {
        let bytes = delivery.byteCount / rowCount * run.count
        var piece = span._mutatingExtracting(position..<position + bytes)
        let (input, range) = input(run, form.columns)
        sums.merge(
          try transcoder.transcode(
            input.bytes.extracting(range), rows: view.keepsRows ? run.count : 1, into: &piece,
            scratch: &scratch, nonFinite: processor.nonFinite, firstRow: unit.firstRow + run.lowerBound))
        position += bytes
      }
      return sums
    }
    return Made(payload: .recoded(output), errors: errors)
  }

  /// The bytes of the wanted columns of a run of rows: where they are, or gathered.
  private func input(_ run: Range<Int>, _ columns: Range<Int>) -> (BufferPool.Buffer, Range<Int>) {
    guard columns.count < view.columns else {
      return (rows.buffer, run.lowerBound * rows.rowBytes..<run.upperBound * rows.rowBytes)
    }
    let gathered = processor.pool.take(run.count * rows.byteCount(of: columns))
    gathered.fill { span in _ = rows.gather(run, columns, into: &span, at: 0) }
    return (gathered, 0..<gathered.byteCount)
  }

  /// How much each of the columns matters. Units of stacked tensors with such weights stay within one expert.
  private func weights(_ form: Form) throws(CheckpointError) -> [Float]? {
    guard let name = form.importance else { return nil }
    let expert = view.isStack ? unit.firstRow / view.matrixRows : nil
    guard let all = try processor.importance?.weights(for: name, columns: view.columns, expert: expert) else {
      throw CheckpointError(
        .invalidRequest, "the plan weights its columns, but the importance matrix has nothing about it")
    }
    return Array(all[form.columns])
  }
}

// MARK: - Block-FP8

extension UnitRecoder {
  /// Makes codes and scales at once, and keeps both.
  private mutating func encodeBlockFP8(_ form: Form) throws(CheckpointError) {
    precondition(form.runs.count == 1, "units of block-FP8 tensors stay within one matrix")
    let run = form.runs[0]
    let tiles = try BlockFP8(rows: run.count, columns: form.columns.count)
    let (input, range) = input(run, form.columns)
    var scratch = BlockFP8.Scratch()
    var scales = [Float](repeating: 0, count: tiles.scaleCount)
    let codes = processor.pool.take(run.count * form.columns.count)
    let sums = try codes.fill { (span) throws(CheckpointError) -> ErrorSums in
      var scaleSpan = scales.mutableSpan
      return try tiles.encode(
        input.bytes.extracting(range), from: rows.elementType, codes: &span, scales: &scaleSpan,
        scratch: &scratch, firstRow: unit.firstRow + run.lowerBound)
    }
    let stored = processor.pool.take(scales.count * MemoryLayout<Float>.stride)
    stored.fill { span in
      // Files hold little-endian numbers, whatever the machine.
      for index in scales.indices { scales[index] = Float(bitPattern: scales[index].bitPattern.littleEndian) }
      span.copy(unsafe scales.span.bytes, to: 0)
    }
    func sibling(_ type: ElementType, _ derivation: ShardPlan.Derivation) -> Form {
      Form(elementType: type, derivation: derivation, importance: nil, runs: form.runs, columns: form.columns)
    }
    made[sibling(.f8E4M3, .blockFP8Codes)] = Made(payload: .recoded(codes), errors: sums)
    made[sibling(.f32, .blockFP8Scales)] = Made(payload: .recoded(stored), errors: ErrorSums())
  }
}
