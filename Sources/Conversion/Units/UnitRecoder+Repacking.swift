internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import ShardPlanning
internal import TensorFormats

// MARK: - Between blocks and schemes

extension UnitRecoder {
  /// Unpacks four-bit GGML blocks into codes and scales.
  func unpack(
    _ form: Form, _ scheme: StoredScheme, movesScale: Bool
  ) throws(CheckpointError) -> (codes: Recoded, scales: Recoded) {
    let run = run(of: form)
    let (input, range) = input(run, form.columns, of: stored)
    let columns = form.columns.count
    let group = scheme.scheme.groupLength ?? columns
    let codes = pool.take(run.count * columns / 2)
    let scales = pool.take(run.count * columns / group)
    try codes.fill { (codeSpan) throws(CheckpointError) in
      try scales.fill { (scaleSpan) throws(CheckpointError) in
        try FourBitRepacking.unpack(
          input.bytes.extracting(range), type: view.elementType, columns: columns, codes: &codeSpan,
          scales: &scaleSpan)
      }
    }
    var recoded = Recoded(payload: .recoded(codes))
    if movesScale {
      recoded.errors = try errorsOfMovedScale(form, codes: codes.bytes, scales: scales.bytes)
    }
    return (recoded, Recoded(payload: .recoded(scales)))
  }

  /// Packs four-bit codes and scales into GGML blocks.
  func pack(_ form: Form, movesScale: Bool) throws(CheckpointError) -> Recoded {
    let run = run(of: form)
    let (codes, range) = input(run, form.columns, of: stored)
    let (first, scales) = (self.firstRow(of: run), sourceScales)
    let wanted = scales.box(
      rows: scales.geometry.scaleRows(for: first..<first + run.count),
      columns: scales.geometry.scaleColumns(for: form.columns))
    let columns = form.columns.count
    let block = form.elementType.block
    let output = pool.take(run.count * columns / block.elements * block.bytes)
    try output.fill { (span) throws(CheckpointError) in
      try unsafe FourBitRepacking.pack(
        codes: codes.bytes.extracting(range), scales: wanted.span.bytes, type: form.elementType,
        columns: columns,
        into: &span)
    }
    var recoded = Recoded(payload: .recoded(output))
    if movesScale {
      recoded.errors = try unsafe errorsOfMovedScale(
        form, codes: codes.bytes.extracting(range), scales: wanted.span.bytes)
    }
    return recoded
  }

  /// The error from rounding the reciprocal of the matrix's scale, for codes that stay in a scheme.
  func errorsOfMovedScale(_ form: Form) throws(CheckpointError) -> RecodingErrors {
    let run = run(of: form)
    let (codes, range) = input(run, form.columns, of: stored)
    let (first, scales) = (self.firstRow(of: run), sourceScales)
    let wanted = scales.box(
      rows: scales.geometry.scaleRows(for: first..<first + run.count),
      columns: scales.geometry.scaleColumns(for: form.columns))
    return try unsafe errorsOfMovedScale(
      form, codes: codes.bytes.extracting(range), scales: wanted.span.bytes)
  }

  /// Decodes NVFP4 under both conventions.
  private func errorsOfMovedScale(
    _ form: Form, codes: RawSpan, scales: RawSpan
  ) throws(CheckpointError) -> RecodingErrors {
    guard let matrixScales = view.scaling?.matrixScales else { return RecodingErrors() }
    let columns = form.columns.count
    let rows = columns == 0 ? 0 : codes.byteCount * 2 / columns
    let (from, to) = (
      view.scaling?.scheme?.matrixScaleForm ?? .factor, form.scheme?.matrixScaleForm ?? .factor
    )
    let scale = fetched.matrixScale
    guard let moved = FourBitRepacking.matrixScale(scale, from: from, to: to) else {
      throw CheckpointError(
        .malformed, "the scale of matrix \(unit.matrix) is \(scale), which is not a valid scale",
        tensor: matrixScales.tensor)
    }
    func values(
      _ form: FourBitRepacking.MatrixScaleForm, _ scale: Float
    ) throws(CheckpointError) -> [Float] {
      let decoder = try SchemeDecoder(
        StoredScheme(.nvfp4, form == .divisor ? .compressedTensors : .modelOpt), rows: rows, columns: columns,
        scalesType: .f8E4M3)
      var values = [Float](repeating: 0, count: rows * columns)
      var span = values.mutableSpan
      try decoder.decode(codes, scales: scales, rows: 0..<rows, matrixScale: scale, into: &span)
      return values
    }
    var (before, after) = (try values(from, scale), try values(to, moved.scale))
    // NaN scales stay NaN, and products beyond F32's range are not measured here.
    for index in before.indices where !before[index].isFinite || !after[index].isFinite {
      (before[index], after[index]) = (0, 0)
    }
    return RecodingErrors(try ErrorSums(original: before.span, restored: after.span))
  }

  /// The first row of a run, counted in its matrix.
  private func firstRow(of run: Range<Int>) -> Int {
    unit.rowsInMatrix.lowerBound + run.lowerBound
  }
}

// MARK: - Scales that are carried over

extension UnitRecoder {
  /// The scales of the box, in the output's type.
  func carryScales(_ form: Form, _ delivery: WorkUnit.Delivery) throws(CheckpointError) -> Recoded {
    let scales = sourceScales
    let height = scales.geometry.scaleHeight
    let run = run(of: form)
    // Rows of scales that begin in this run, counted from the box's first.
    let inBox = firstRow(of: run) - delivery.firstRow
    let rows =
      scales.geometry.scaleRows(of: inBox)..<scales.geometry.scaleRows(of: inBox + run.count)
    let top = delivery.firstRow / height
    let bytes = scales.box(
      rows: top + rows.lowerBound..<top + rows.upperBound,
      columns: scales.geometry.scaleColumns(for: form.columns))
    let result: BufferPool.Buffer
    if form.elementType == .f32, scales.elementType != .f32 {
      guard let codec = BlockCodec.codec(for: scales.elementType) else {
        throw CheckpointError(.unsupported, "scales cannot be \(scales.elementType)", tensor: scales.tensor)
      }
      var values = [Float](repeating: 0, count: bytes.count / scales.elementType.block.bytes)
      do {
        var span = values.mutableSpan
        try unsafe codec.decode(bytes.span.bytes, into: &span)
      }
      result = buffer(littleEndian: values)
    } else {
      result = pool.take(bytes.count)
      result.fill { span in span.copy(unsafe bytes.span.bytes, to: 0) }
    }
    precondition(result.byteCount == delivery.byteCount, "the plan has as many scales as the source")
    return Recoded(payload: .recoded(result))
  }

  /// The rows of scales that were read with the unit.
  fileprivate var sourceScales: SourceScales {
    guard let scheme = view.scaling?.scheme, let scales = view.scaling?.scales, let buffer = fetched.scales
    else { preconditionFailure("units declare that they need their scales") }
    let geometry = scheme.scheme.geometry
    return SourceScales(
      scales: scales, geometry: geometry, buffer: buffer,
      rows: geometry.scaleRows(for: unit.rowsInMatrix), width: geometry.scaleColumns(of: view.columns))
  }
}

/// The rows of scales that belong to a unit, from which rows and columns can be extracted.
private struct SourceScales {
  let scales: ShardPlan.Scales
  let geometry: SchemeGeometry
  let buffer: BufferPool.Buffer
  /// Which rows of scales of the matrix are in the buffer.
  let rows: Range<Int>
  /// The number of scales per row.
  let width: Int

  var elementType: ElementType { scales.elementType }
  var tensor: String { scales.tensor }

  /// A box of scales, counted in the matrix.
  func box(rows wanted: Range<Int>, columns: Range<Int>) -> [UInt8] {
    let size = scales.elementType.block.bytes
    var result: [UInt8] = []
    result.reserveCapacity(wanted.count * columns.count * size)
    for row in wanted {
      let first = ((row - rows.lowerBound) * width + columns.lowerBound) * size
      unsafe buffer.bytes.extracting(first..<first + columns.count * size).withUnsafeBytes {
        unsafe result.append(contentsOf: $0)
      }
    }
    return result
  }
}
