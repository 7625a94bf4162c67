public import TensorFormats

/// Encodes rows of one element type in a scheme whose rows are independent, and measures what is lost.
///
/// Works through tiles of about 16,384 elements that stay in the processor's cache: decode to F32, look for NaN and
/// infinity, encode, decode back, compare. NaN and infinity are always refused: one of them would spoil a scale.
///
/// The value is immutable; threads share it, each with a ``Scratch`` of its own. The bytes written depend on neither
/// the tier nor how the rows are divided among calls.
public struct SchemeTranscoder: Sendable {
  /// The element type read.
  public let source: ElementType
  /// The elements of a row that is read.
  public let columns: Int
  /// The columns that are written.
  public let wanted: Range<Int>

  private let scheme: RowScheme
  private let matrixScale: Float
  private let search: ScaleSearch
  private let importance: [Float]?
  private let decoder: BlockCodec
  private let tileRows: Int
  private let codeBytes: Int
  private let scaleBytes: Int

  /// The buffers that one thread needs while it transcodes.
  public struct Scratch: Sendable {
    fileprivate var values: [Float]
    fileprivate var restored: [Float]
  }

  /// Prepares for rows of `columns` elements.
  ///
  /// - Parameters:
  ///   - source: The element type read.
  ///   - stored: The scheme, and whose.
  ///   - columns: The elements of a row.
  ///   - wanted: Those to write; all if `nil`. If a scale depends on a whole row, the others are read for it.
  ///   - importance: One finite weight from 0 on per column; ignored without a search.
  ///   - matrixScale: As it is stored; 1 where the scheme has none.
  ///   - search: How scales are chosen.
  /// - Throws: `.unsupported` if the type cannot be read or the scheme not be written, `.malformed` if rows are not
  ///   whole groups or the importance does not fit.
  public init(
    from source: ElementType, to stored: StoredScheme, columns: Int, wanted: Range<Int>? = nil,
    importance: [Float]? = nil, matrixScale: Float = 1, search: ScaleSearch
  ) throws(CheckpointError) {
    guard let decoder = BlockCodec.codec(for: source) else {
      throw CheckpointError(
        .unsupported, "\(source) elements are not floating-point numbers and cannot be re-encoded")
    }
    guard columns > 0, source.block.byteCount(ofElements: columns) != nil else {
      throw CheckpointError(
        .malformed, "rows of \(columns) elements are not a whole number of \(source) blocks")
    }
    if let importance {
      guard importance.count == columns, importance.allSatisfy({ $0 >= 0 && $0.isFinite }) else {
        throw CheckpointError(
          .malformed,
          "\(importance.count) importance weights for rows of \(columns) elements, or one that is not a finite number from 0 on"
        )
      }
    }
    scheme = try RowScheme(stored)
    self.source = source
    self.columns = columns
    self.wanted = wanted ?? 0..<columns
    self.importance = search == .mse ? importance : nil
    self.matrixScale = matrixScale
    self.search = search
    self.decoder = decoder
    tileRows = max(1, 16_384 / columns)
    codeBytes = try scheme.codeBytes(columns: columns)
    scaleBytes = try scheme.scaleBytes(columns: columns)
    precondition(
      self.wanted == 0..<columns || stored.scheme.scalesWholeRows,
      "rows are cut before they are encoded unless their scales need all of them")
  }

  /// Buffers for this transcoder.
  public func makeScratch() -> Scratch {
    let count = tileRows * columns
    return Scratch(
      values: [Float](repeating: 0, count: count), restored: [Float](repeating: 0, count: count))
  }

  /// The bytes of codes that are written for a row.
  public var codeRowBytes: Int { wanted.count == columns ? codeBytes : wanted.count }
  /// The bytes of scales that are written for a row.
  public var scaleRowBytes: Int { scaleBytes }
}

// MARK: - Transcoding

extension SchemeTranscoder {
  /// Encodes rows.
  ///
  /// - Parameters:
  ///   - input: `rows` rows of the source.
  ///   - rows: How many.
  ///   - codes: Receives ``codeRowBytes`` for each.
  ///   - scales: Receives ``scaleRowBytes`` for each.
  ///   - scratch: Made by this transcoder.
  ///   - firstRow: The number of the first row in its tensor, for error messages.
  /// - Returns: What was lost, over the columns that are written.
  /// - Throws: `.malformed` if the sizes do not match, `.nonFinite` for NaN or infinity, and for a finite value that
  ///   the scheme cannot hold: one that decodes to infinity, or is beyond its largest number.
  public func transcode(
    _ input: RawSpan, rows: Int, codes: inout MutableRawSpan, scales: inout MutableRawSpan,
    scratch: inout Scratch, firstRow: Int = 0
  ) throws(CheckpointError) -> RecodingErrors {
    let rowBytes = columns / source.block.elements * source.block.bytes
    guard input.byteCount == rows * rowBytes, codes.byteCount == rows * codeRowBytes,
      scales.byteCount == rows * scaleRowBytes
    else {
      throw CheckpointError(
        .malformed,
        "\(rows) rows of \(columns) \(source) elements do not take \(input.byteCount) bytes, or their codes and scales "
          + "not \(codes.byteCount) and \(scales.byteCount)")
    }
    var errors = RecodingErrors()
    // Rows that are only partly written are encoded here first.
    var whole = [UInt8](repeating: 0, count: wanted.count == columns ? 0 : tileRows * codeBytes)
    for row in stride(from: 0, to: rows, by: tileRows) {
      let some = min(tileRows, rows - row)
      let bytes = input.extracting(row * rowBytes..<(row + some) * rowBytes)
      var scalePiece = scales._mutatingExtracting(row * scaleBytes..<(row + some) * scaleBytes)
      guard wanted.count < columns else {
        var piece = codes._mutatingExtracting(row * codeBytes..<(row + some) * codeBytes)
        try transcodeTile(bytes, rows: some, &piece, &scalePiece, &scratch, &errors, firstRow: firstRow + row)
        continue
      }
      do {
        var span = whole.mutableSpan
        var all = unsafe span.mutableBytes
        var piece = all._mutatingExtracting(0..<some * codeBytes)
        try transcodeTile(bytes, rows: some, &piece, &scalePiece, &scratch, &errors, firstRow: firstRow + row)
      }
      for index in 0..<some {
        let start = index * codeBytes + wanted.lowerBound
        codes.copyBytes(
          unsafe whole.span.bytes.extracting(start..<start + wanted.count), to: (row + index) * wanted.count)
      }
    }
    return errors
  }

  /// Measures the loss of codes and scales that were made elsewhere.
  ///
  /// - Parameters:
  ///   - input: `rows` rows of the source.
  ///   - rows: How many rows there are.
  ///   - codes: ``codeRowBytes`` for each.
  ///   - scales: ``scaleRowBytes`` for each.
  ///   - scratch: Made by this transcoder's ``makeScratch()``.
  ///   - firstRow: The number of the first row in its tensor, for error messages.
  /// - Throws: `.malformed` if the sizes do not match, `.nonFinite` for NaN or infinity in the source or in what the
  ///   codes stand for.
  public func compare(
    _ input: RawSpan, rows: Int, codes: RawSpan, scales: RawSpan, scratch: inout Scratch, firstRow: Int = 0
  ) throws(CheckpointError) -> RecodingErrors {
    let rowBytes = columns / source.block.elements * source.block.bytes
    guard input.byteCount == rows * rowBytes, codes.byteCount == rows * codeRowBytes,
      scales.byteCount == rows * scaleRowBytes, wanted.count == columns
    else {
      throw CheckpointError(
        .malformed, "\(rows) rows of \(columns) elements have codes or scales of other sizes")
    }
    var errors = RecodingErrors()
    for row in stride(from: 0, to: rows, by: tileRows) {
      let some = min(tileRows, rows - row)
      let count = some * columns
      do {
        var span = scratch.values.mutableSpan
        var values = span._mutatingExtracting(0..<count)
        try decoder.decode(input.extracting(row * rowBytes..<(row + some) * rowBytes), into: &values)
      }
      do {
        var span = scratch.restored.mutableSpan
        var restored = span._mutatingExtracting(0..<count)
        try scheme.decode(
          codes: codes.extracting(row * codeBytes..<(row + some) * codeBytes),
          scales: scales.extracting(row * scaleBytes..<(row + some) * scaleBytes), columns: columns,
          matrixScale: matrixScale, into: &restored)
      }
      for values in [scratch.values, scratch.restored] {
        _ = try NonFinitePolicy.reject.check(
          values.span.extracting(0..<count), firstRow: firstRow + row, firstColumn: 0, stride: columns,
          target: stored.scheme.geometry.codesType, tier: .active)
      }
      try measure(rows: some, scratch, &errors)
    }
    return errors
  }

  private func transcodeTile(
    _ input: RawSpan, rows: Int, _ codes: inout MutableRawSpan, _ scales: inout MutableRawSpan,
    _ scratch: inout Scratch, _ errors: inout RecodingErrors, firstRow: Int
  ) throws(CheckpointError) {
    let count = rows * columns
    do {
      var span = scratch.values.mutableSpan
      var values = span._mutatingExtracting(0..<count)
      try decoder.decode(input, into: &values)
    }
    _ = try NonFinitePolicy.reject.check(
      scratch.values.span.extracting(0..<count), firstRow: firstRow, firstColumn: 0, stride: columns,
      target: stored.scheme.geometry.codesType, tier: .active)
    let place = RangeCheck.Place(firstRow: firstRow, stride: columns)
    let range = RangeCheck(stored.scheme)
    try range.check(scratch.values.span.extracting(0..<count), at: place, tier: .active)
    let gained = try scheme.encode(
      scratch.values.span.extracting(0..<count), columns: columns, importance: importance?.span,
      matrixScale: matrixScale, search: search, codes: &codes, scales: &scales)
    if let gained { errors.search.merge(gained) }
    do {
      var span = scratch.restored.mutableSpan
      var restored = span._mutatingExtracting(0..<count)
      try scheme.decode(
        codes: codes.bytes, scales: scales.bytes, columns: columns, matrixScale: matrixScale, into: &restored)
    }
    try range.check(
      scratch.values.span.extracting(0..<count), restored: scratch.restored.span.extracting(0..<count),
      group: stored.scheme.groupLength ?? columns, at: place, tier: .active)
    try measure(rows: rows, scratch, &errors)
  }

  private func measure(rows: Int, _ scratch: Scratch, _ errors: inout RecodingErrors) throws(CheckpointError)
  {
    if wanted.count == columns {
      let all = 0..<rows * columns
      errors.sums.merge(
        try ErrorSums(
          original: scratch.values.span.extracting(all), restored: scratch.restored.span.extracting(all)))
      return
    }
    for row in 0..<rows {
      let some = row * columns + wanted.lowerBound..<row * columns + wanted.upperBound
      errors.sums.merge(
        try ErrorSums(
          original: scratch.values.span.extracting(some), restored: scratch.restored.span.extracting(some)))
    }
  }

  private var stored: StoredScheme { scheme.stored }
}

extension MutableRawSpan {
  /// Copies all of `source` to `offset`.
  @_lifetime(self: copy self)
  fileprivate mutating func copyBytes(_ source: RawSpan, to offset: Int) {
    precondition(offset >= 0 && offset + source.byteCount <= byteCount)
    unsafe withUnsafeMutableBytes { target in
      unsafe source.withUnsafeBytes {
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + $0.count]).copyMemory(
          from: $0)
      }
    }
  }
}
