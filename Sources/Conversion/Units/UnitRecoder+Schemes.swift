internal import ByteStreams
internal import Quantization
internal import QuantizationRecipes
internal import ShardPlanning
internal import TensorFormats

// MARK: - Encoding

extension UnitRecoder {
  /// Makes codes and scales of a run of rows.
  func encode(_ form: Form, _ scheme: StoredScheme) throws(CheckpointError) -> (
    codes: Recoded, scales: Recoded
  ) {
    scheme.scheme == .fp8Tiles ? try encodeTiles(form, scheme) : try encodeRows(form, scheme)
  }

  private func encodeTiles(
    _ form: Form, _ scheme: StoredScheme
  ) throws(CheckpointError) -> (codes: Recoded, scales: Recoded) {
    let run = run(of: form)
    let tiles = try BlockFP8(rows: run.count, columns: form.columns.count)
    if let prepared = context.prepared, prepared.covers(view.tensor, as: .scheme(scheme)) {
      return try takeTiles(run, form, tiles, from: prepared)
    }
    let (input, range) = input(run, form.columns, of: rows.packed)
    var scratch = BlockFP8.Scratch()
    var scales = [Float](repeating: 0, count: tiles.scaleCount)
    let codes = pool.take(run.count * form.columns.count)
    let sums = try codes.fill { (span) throws(CheckpointError) -> ErrorSums in
      var scaleSpan = scales.mutableSpan
      return try tiles.encode(
        input.bytes.extracting(range), from: rows.elementType, codes: &span, scales: &scaleSpan,
        scratch: &scratch, firstRow: unit.firstRow + run.lowerBound)
    }
    return (
      Recoded(payload: .recoded(codes), errors: RecodingErrors(sums)),
      Recoded(payload: .recoded(buffer(littleEndian: scales)))
    )
  }

  private func encodeRows(
    _ form: Form, _ scheme: StoredScheme
  ) throws(CheckpointError) -> (codes: Recoded, scales: Recoded) {
    let run = run(of: form)
    if let prepared = context.prepared, prepared.covers(view.tensor, as: .scheme(scheme)) {
      return try take(run, form, scheme, from: prepared)
    }
    // Pieces of a row use the scale of the whole row, so that the ranks together equal an uncut output.
    let wholeRows = scheme.scheme.scalesWholeRows
    let (input, range) = input(run, wholeRows ? 0..<view.columns : form.columns, of: rows.packed)
    let transcoder = try SchemeTranscoder(
      from: rows.elementType, to: scheme, columns: wholeRows ? view.columns : form.columns.count,
      wanted: wholeRows ? form.columns : nil, importance: try weights(form, wholeRows: wholeRows),
      matrixScale: try encodingScale(scheme), search: form.operation.search ?? .absmax)
    var scratch = transcoder.makeScratch()
    let codes = pool.take(run.count * transcoder.codeRowBytes)
    let scales = pool.take(run.count * transcoder.scaleRowBytes)
    let errors = try codes.fill { (codeSpan) throws(CheckpointError) in
      try scales.fill { (scaleSpan) throws(CheckpointError) in
        try transcoder.transcode(
          input.bytes.extracting(range), rows: run.count, codes: &codeSpan, scales: &scaleSpan,
          scratch: &scratch, firstRow: unit.firstRow + run.lowerBound)
      }
    }
    return (Recoded(payload: .recoded(codes), errors: errors), Recoded(payload: .recoded(scales)))
  }

  /// Takes codes and scales made beforehand for the requested columns, and measures their loss.
  private func take(
    _ run: Range<Int>, _ form: Form, _ scheme: StoredScheme, from prepared: any PreparedCodes
  ) throws(CheckpointError) -> (codes: Recoded, scales: Recoded) {
    let rowScheme = try RowScheme(scheme)
    let codeBytes = try rowScheme.codeBytes(columns: view.columns)
    let scaleBytes = try rowScheme.scaleBytes(columns: view.columns)
    let (allCodes, allScales) = try read(
      run, codeBytes: codeBytes, scaleRows: run.count, scaleBytes: scaleBytes, from: prepared)
    if let scale = try prepared.matrixScale(ofMatrix: unit.matrix, of: view.tensor),
      case let own = try encodingScale(scheme), scale.bitPattern != own.bitPattern
    {
      throw CheckpointError(
        .malformed,
        "the codes of matrix \(unit.matrix) were made with the scale \(scale), but it has \(own)",
        tensor: view.tensor, remedy: "start afresh with --overwrite")
    }
    let transcoder = try SchemeTranscoder(
      from: rows.elementType, to: scheme, columns: form.columns.count,
      matrixScale: try encodingScale(scheme), search: .absmax)
    // Cuts fall between groups, so that the columns take whole bytes.
    let start = form.columns.lowerBound
    let codes = cut(
      allCodes, run.count, transcoder.codeRowBytes, from: start * codeBytes / view.columns, of: codeBytes)
    let scales = cut(
      allScales, run.count, transcoder.scaleRowBytes,
      from: scheme.scheme.scalesWholeRows ? 0 : start * scaleBytes / view.columns, of: scaleBytes)
    let (input, range) = input(run, form.columns, of: rows.packed)
    var scratch = transcoder.makeScratch()
    let errors = try transcoder.compare(
      input.bytes.extracting(range), rows: run.count, codes: codes.bytes, scales: scales.bytes,
      scratch: &scratch, firstRow: unit.firstRow + run.lowerBound)
    return (Recoded(payload: .recoded(codes), errors: errors), Recoded(payload: .recoded(scales)))
  }

  /// The same of tiles.
  private func takeTiles(
    _ run: Range<Int>, _ form: Form, _ tiles: BlockFP8, from prepared: any PreparedCodes
  ) throws(CheckpointError) -> (codes: Recoded, scales: Recoded) {
    let whole = try BlockFP8(rows: run.count, columns: view.columns)
    let (allCodes, allScales) = try read(
      run, codeBytes: view.columns, scaleRows: tiles.scaleRows, scaleBytes: 4 * whole.scaleColumns,
      from: prepared)
    let start = form.columns.lowerBound
    let codes = cut(allCodes, run.count, tiles.columns, from: start, of: view.columns)
    let scales = cut(
      allScales, tiles.scaleRows, 4 * tiles.scaleColumns, from: start / BlockFP8.side * 4,
      of: 4 * whole.scaleColumns)
    let (input, range) = input(run, form.columns, of: rows.packed)
    var scratch = BlockFP8.Scratch()
    var multipliers: [Float] = []
    for index in 0..<tiles.scaleCount {
      multipliers.append(
        Float(
          bitPattern: UInt32(
            littleEndian: unsafe scales.bytes.unsafeLoadUnaligned(fromByteOffset: 4 * index, as: UInt32.self))
        ))
    }
    let sums = try tiles.compare(
      input.bytes.extracting(range), from: rows.elementType, codes: codes.bytes, scales: multipliers.span,
      scratch: &scratch, firstRow: unit.firstRow + run.lowerBound)
    return (
      Recoded(payload: .recoded(codes), errors: RecodingErrors(sums)), Recoded(payload: .recoded(scales))
    )
  }

  /// Reads all columns of a run of rows made beforehand.
  private func read(
    _ run: Range<Int>, codeBytes: Int, scaleRows: Int, scaleBytes: Int, from prepared: any PreparedCodes
  ) throws(CheckpointError) -> (codes: BufferPool.Buffer, scales: BufferPool.Buffer) {
    let (allCodes, allScales) = (pool.take(run.count * codeBytes), pool.take(scaleRows * scaleBytes))
    let first = unit.rowsInMatrix.lowerBound
    try allCodes.fill { (codes) throws(CheckpointError) in
      try allScales.fill { (scales) throws(CheckpointError) in
        try prepared.read(
          first + run.lowerBound..<first + run.upperBound, ofMatrix: unit.matrix, of: view.tensor,
          codes: &codes, scales: &scales)
      }
    }
    return (allCodes, allScales)
  }

  /// A range of bytes of each row.
  func cut(
    _ buffer: BufferPool.Buffer, _ rows: Int, _ wanted: Int, from start: Int, of rowBytes: Int
  ) -> BufferPool.Buffer {
    guard wanted < rowBytes else { return buffer }
    let result = pool.take(rows * wanted)
    result.fill { span in
      for row in 0..<rows {
        span.copy(
          buffer.bytes.extracting(row * rowBytes + start..<row * rowBytes + start + wanted), to: row * wanted)
      }
    }
    return result
  }

  /// The scale of the unit's matrix, from the largest magnitude of all that share it; 1 if the scheme has none.
  func encodingScale(_ scheme: StoredScheme) throws(CheckpointError) -> Float {
    guard scheme.scheme.geometry.hasMatrixScale else { return 1 }
    guard let maximum else {
      preconditionFailure("a unit declares the maximum that it needs before it is made")
    }
    return try RowScheme(scheme).matrixScale(amax: maximum)
  }
}

// MARK: - Scales of matrices, shapes

extension UnitRecoder {
  /// The scale of the matrix that begins in this unit, if one does.
  func matrixScales(_ scale: Float, _ delivery: WorkUnit.Delivery) -> BufferPool.Buffer {
    buffer(littleEndian: [Float](repeating: scale, count: delivery.byteCount / 4))
  }

  /// A scale of the source, in the output's convention. Engines use one for a whole group, so all of a group must
  /// agree.
  func carriedScale(_ form: Form, _ target: ShardPlan.Tensor) throws(CheckpointError) -> Float {
    let own = try moved(fetched.matrixScale, target.source.scaling, form.scheme)
    guard let group = form.operation.scaleGroup else { return own }
    for (member, scale) in zip(context.work.scaleGroups[group].members, fetched.groupScales) {
      let other = try moved(scale, member.slice.scaling, form.scheme)
      guard other.bitPattern == own.bitPattern else {
        throw CheckpointError(
          .unsupported,
          "matrix \(unit.matrix) has a different scale from \(member.slice.tensor) (\(own) and \(other)), but "
            + "engines use one for both", tensor: target.source.tensor,
          remedy: "convert to BF16 first, and then to \(form.scheme.map { "\($0.scheme)" } ?? "this format")")
      }
    }
    return own
  }

  private func moved(
    _ scale: Float, _ scaling: ShardPlan.Scaling?, _ target: StoredScheme?
  ) throws(CheckpointError) -> Float {
    guard let scales = scaling?.matrixScales else { return 1 }
    let (from, to) = (scaling?.scheme?.matrixScaleForm ?? .factor, target?.matrixScaleForm ?? .factor)
    guard let moved = FourBitRepacking.matrixScale(scale, from: from, to: to) else {
      throw CheckpointError(
        .malformed, "the scale of matrix \(unit.matrix) is \(scale), which is not a valid scale",
        tensor: scales.tensor)
    }
    return moved.scale
  }

  /// Rows and columns before packing, once for each matrix that begins in this unit.
  func shapes(_ delivery: WorkUnit.Delivery, _ target: ShardPlan.Tensor) -> BufferPool.Buffer {
    let rows = target.sources.reduce(0) { $0 + $1.extent[$1.extent.count - 2] }
    let shape = [rows, delivery.columns.count]
    let result = pool.take(delivery.byteCount)
    result.fill { span in
      for index in 0..<delivery.byteCount / 8 {
        span.storeBytes(of: shape[index % 2].littleEndian, toByteOffset: 8 * index, as: Int.self)
      }
    }
    return result
  }

  /// Files hold little-endian numbers, whatever the machine.
  func buffer(littleEndian values: [Float]) -> BufferPool.Buffer {
    let result = pool.take(values.count * 4)
    result.fill { span in
      for (index, value) in values.enumerated() {
        span.storeBytes(of: value.bitPattern.littleEndian, toByteOffset: 4 * index, as: UInt32.self)
      }
    }
    return result
  }
}
