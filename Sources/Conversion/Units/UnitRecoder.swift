internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import QuantizationRecipes
internal import ShardPlanning
internal import TensorFormats

/// Makes the bytes of a unit's deliveries from its rows.
///
/// Deliveries with the same bytes are made once: a tensor replicated in several parts, and the codes and scales of
/// a scheme, which are two tensors made from one set of rows.
struct UnitRecoder {
  let fetched: FetchedUnit
  let view: SourceView
  /// The rows as the source stores them.
  let stored: ContiguousRows
  /// The rows as values are converted.
  let rows: UnitRows
  /// The largest magnitude of all matrices that share a scale with the unit's; `nil` if not needed.
  let maximum: Float?
  let context: UnitContext

  private var done: [Form: Recoded] = [:]

  var unit: WorkUnit { fetched.unit }
  var pool: BufferPool { context.pool }

  /// - Parameter content: The source's bytes, little-endian.
  /// - Throws: As ``RowDecoder``, where rows are decoded first.
  init(
    _ fetched: FetchedUnit, _ view: SourceView, _ content: BufferPool.Buffer, maximum: Float?,
    _ context: UnitContext
  ) throws(CheckpointError) {
    self.fetched = fetched
    self.view = view
    stored = ContiguousRows(content, view)
    rows = try UnitRows(fetched, view, content, context.pool)
    self.maximum = maximum
    self.context = context
  }

  /// What the bytes of a delivery depend on, besides the unit.
  struct Form: Hashable {
    var elementType: ElementType
    var operation: ShardPlan.Operation
    let runs: [Range<Int>]
    let columns: Range<Int>

    init(_ tensor: ShardPlan.Tensor, _ delivery: WorkUnit.Delivery) {
      elementType = tensor.elementType
      operation = tensor.operation
      runs = delivery.runs
      columns = delivery.columns
    }

    var scheme: StoredScheme? { operation.scheme }

    /// The other of a scheme's two tensors made from the same rows.
    func sibling(_ part: StoredScheme.Part, of scheme: StoredScheme) -> Form {
      var form = self
      form.elementType = part == .codes ? scheme.scheme.geometry.codesType : scheme.scheme.geometry.scalesType
      switch operation {
      case .encode(_, let scheme, let encoding): form.operation = .encode(part, of: scheme, encoding)
      case .unpack(_, let scheme): form.operation = .unpack(part, of: scheme)
      case .copy, .convert, .pack, .carry, .shape: preconditionFailure("only schemes have codes and scales")
      }
      return form
    }
  }

  struct Recoded {
    let payload: ProcessedUnit.Payload
    var errors = RecodingErrors()
  }

  /// - Throws: `.nonFinite` for non-finite weights, naming the tensor.
  mutating func deliver(_ delivery: WorkUnit.Delivery) throws(CheckpointError) -> ProcessedUnit.Result {
    let target = context.work.targets[delivery.target].tensor
    let form = Form(target, delivery)
    let result: Recoded
    if let known = done[form] {
      result = known
    } else {
      do throws(CheckpointError) {
        result = try make(form, delivery, target)
      } catch {
        var named =
          error.path == nil ? error.at(path: context.checkpoint.files[unit.source.file].source.path) : error
        if named.tensor == nil { named.tensor = target.source.tensor }
        if error.code == .nonFinite, error.remedy == nil, case .convert = target.operation {
          named.remedy = "give --allow-nonfinite to keep such values where the format can hold them"
        }
        throw named
      }
    }
    return ProcessedUnit.Result(delivery: delivery, payload: result.payload, errors: result.errors)
  }

  private mutating func make(
    _ form: Form, _ delivery: WorkUnit.Delivery, _ target: ShardPlan.Tensor
  ) throws(CheckpointError) -> Recoded {
    switch form.operation {
    case .copy: return keep(copy(form, delivery, of: stored, areSource: true), as: form)
    case .convert where form.elementType != rows.elementType:
      return keep(try convert(form, delivery), as: form)
    case .convert:
      return keep(copy(form, delivery, of: rows.packed, areSource: rows.areSource), as: form)
    case .pack: return keep(try pack(form, movesScale: target.movesMatrixScale), as: form)
    case .encode(.codes, let scheme, _), .encode(.scales, let scheme, _):
      let (codes, scales) = try encode(form, scheme)
      return keep(codes, scales, of: form, scheme)
    case .unpack(_, let scheme):
      let (codes, scales) = try unpack(form, scheme, movesScale: target.movesMatrixScale)
      return keep(codes, scales, of: form, scheme)
    case .carry(.codes, _, _):
      var codes = copy(form, delivery, of: stored, areSource: true)
      if target.movesMatrixScale { codes.errors = try errorsOfMovedScale(form) }
      return keep(codes, as: form)
    case .carry(.scales, _, _): return keep(try carryScales(form, delivery), as: form)
    case .encode(.matrixScales, let scheme, _):
      return Recoded(payload: .recoded(matrixScales(try encodingScale(scheme), delivery)))
    case .carry(.matrixScales, _, _):
      return Recoded(payload: .recoded(matrixScales(try carriedScale(form, target), delivery)))
    case .shape, .encode(.shape, _, _), .carry(.shape, _, _):
      return Recoded(payload: .recoded(shapes(delivery, target)))
    }
  }

  private mutating func keep(_ result: Recoded, as form: Form) -> Recoded {
    done[form] = result
    return result
  }

  /// Keeps both tensors of a scheme, and returns the requested one.
  private mutating func keep(_ codes: Recoded, _ scales: Recoded, of form: Form, _ scheme: StoredScheme)
    -> Recoded
  {
    done[form.sibling(.codes, of: scheme)] = codes
    done[form.sibling(.scales, of: scheme)] = scales
    return form.operation.part == .codes ? codes : scales
  }
}

// MARK: - Copying

extension UnitRecoder {
  private func copy(
    _ form: Form, _ delivery: WorkUnit.Delivery, of packed: ContiguousRows, areSource: Bool
  ) -> Recoded {
    let isWhole = form.columns.count == view.columns
    if isWhole, form.runs.count == 1, areSource {
      let range = form.runs[0].lowerBound * packed.rowBytes..<form.runs[0].upperBound * packed.rowBytes
      return Recoded(payload: .content(range))
    }
    let gathered = pool.take(delivery.byteCount)
    gathered.fill { span in
      var position = 0
      for run in form.runs { position += packed.gather(run, form.columns, into: &span, at: position) }
    }
    return Recoded(payload: .recoded(gathered))
  }

  /// The bytes of the requested columns of a run of rows: in place, or gathered.
  func input(
    _ run: Range<Int>, _ columns: Range<Int>, of packed: ContiguousRows
  ) -> (buffer: BufferPool.Buffer, range: Range<Int>) {
    guard columns.count < view.columns else {
      return (packed.buffer, run.lowerBound * packed.rowBytes..<run.upperBound * packed.rowBytes)
    }
    let gathered = pool.take(run.count * packed.byteCount(of: columns))
    gathered.fill { span in _ = packed.gather(run, columns, into: &span, at: 0) }
    return (gathered, 0..<gathered.byteCount)
  }

  /// The only run of a unit that stays within one matrix.
  func run(of form: Form) -> Range<Int> {
    precondition(form.runs.count == 1, "units of scaled tensors stay within one matrix")
    return form.runs[0]
  }
}

// MARK: - Converting

extension UnitRecoder {
  private func convert(_ form: Form, _ delivery: WorkUnit.Delivery) throws(CheckpointError) -> Recoded {
    if let prepared = context.prepared, prepared.covers(view.tensor, as: .element(form.elementType)) {
      return try take(form, delivery, from: prepared)
    }
    let columns = form.columns.count
    let rowCount = form.runs.reduce(0) { $0 + $1.count }
    // If rows do not matter, a run is one long row.
    let transcoder = try RowTranscoder(
      from: rows.elementType, to: form.elementType, columns: view.keepsRows ? columns : rowCount * columns,
      importance: try weights(form))
    var scratch = transcoder.makeScratch()
    let output = pool.take(delivery.byteCount)
    let errors = try output.fill { (span) throws(CheckpointError) -> ErrorSums in
      var sums = ErrorSums()
      var position = 0
      for run in form.runs {
        let bytes = delivery.byteCount / rowCount * run.count
        var piece = span._mutatingExtracting(position..<position + bytes)
        let (input, range) = input(run, form.columns, of: rows.packed)
        sums.merge(
          try transcoder.transcode(
            input.bytes.extracting(range), rows: view.keepsRows ? run.count : 1, into: &piece,
            scratch: &scratch, nonFinite: context.nonFinite, firstRow: unit.firstRow + run.lowerBound))
        position += bytes
      }
      return sums
    }
    return Recoded(payload: .recoded(output), errors: RecodingErrors(errors))
  }

  /// Takes blocks made beforehand for the requested columns, and measures their loss.
  private func take(
    _ form: Form, _ delivery: WorkUnit.Delivery, from prepared: any PreparedCodes
  ) throws(CheckpointError) -> Recoded {
    let transcoder = try RowTranscoder(
      from: rows.elementType, to: form.elementType, columns: form.columns.count)
    var scratch = transcoder.makeScratch()
    let block = form.elementType.block
    let rowBytes = view.columns / block.elements * block.bytes
    let wanted = form.columns.count / block.elements * block.bytes
    let output = pool.take(delivery.byteCount)
    var sums = ErrorSums()
    try output.fill { (span) throws(CheckpointError) in
      var position = 0
      for run in form.runs {
        var first = unit.firstRow + run.lowerBound
        let end = unit.firstRow + run.upperBound
        while first < end {
          let matrix = first / view.matrixRows
          let some = first..<min(end, (matrix + 1) * view.matrixRows)
          let blocks = pool.take(some.count * rowBytes)
          let nothing = pool.take(0)
          try blocks.fill { (codes) throws(CheckpointError) in
            try nothing.fill { (scales) throws(CheckpointError) in
              let top = matrix * view.matrixRows
              try prepared.read(
                some.lowerBound - top..<some.upperBound - top, ofMatrix: matrix, of: view.tensor,
                codes: &codes, scales: &scales)
            }
          }
          let own = cut(
            blocks, some.count, wanted, from: form.columns.lowerBound / block.elements * block.bytes,
            of: rowBytes)
          let (input, range) = input(
            some.lowerBound - unit.firstRow..<some.upperBound - unit.firstRow, form.columns, of: rows.packed)
          sums.merge(
            try transcoder.compare(
              input.bytes.extracting(range), rows: some.count, encoded: own.bytes, scratch: &scratch,
              firstRow: some.lowerBound))
          span.copy(own.bytes, to: position)
          position += own.byteCount
          first = some.upperBound
        }
      }
    }
    return Recoded(payload: .recoded(output), errors: RecodingErrors(sums))
  }

  /// The importance of each column. Units of stacked tensors with such weights stay within one expert.
  func weights(_ form: Form, wholeRows: Bool = false) throws(CheckpointError) -> [Float]? {
    guard let name = form.operation.importance else { return nil }
    let expert = view.isStack ? unit.firstRow / view.matrixRows : nil
    guard let all = try context.importance?.weights(for: name, columns: view.columns, expert: expert) else {
      throw CheckpointError(
        .invalidRequest, "the plan weights its columns, but the importance matrix does not cover it")
    }
    return wholeRows ? all : Array(all[form.columns])
  }
}
