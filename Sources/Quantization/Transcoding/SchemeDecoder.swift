public import TensorFormats

/// Decodes rows of matrices that are stored in a scheme, in any scheme, with scales of any readable type.
///
/// The value is immutable; any number of threads may share it.
public struct SchemeDecoder: Hashable, Sendable {
  /// How the weight is stored.
  public let stored: StoredScheme
  /// The rows of one matrix.
  public let rows: Int
  /// The elements of a row.
  public let columns: Int
  /// How its scales are stored.
  public let scalesType: ElementType

  /// One of these two does the work.
  private let tiles: BlockFP8?
  private let scheme: RowScheme?

  /// Prepares for matrices of one size.
  ///
  /// - Throws: `.unsupported` for schemes and scale types that cannot be read, `.malformed` for rows that are not
  ///   whole groups.
  public init(
    _ stored: StoredScheme, rows: Int, columns: Int, scalesType: ElementType
  ) throws(CheckpointError) {
    self.stored = stored
    self.rows = rows
    self.columns = columns
    self.scalesType = scalesType
    if case .fp8Block(let tileRows, let tileColumns) = stored.scheme {
      tiles = try BlockFP8(rows: rows, columns: columns, tileRows: tileRows, tileColumns: tileColumns)
      scheme = nil
    } else {
      // FP8 rows are the same under all names.
      let method: StoredScheme.Method = stored.scheme == .fp8Channel ? .compressedTensors : stored.method
      let scheme = try RowScheme(StoredScheme(stored.scheme, method))
      _ = try scheme.codeBytes(columns: columns)
      self.scheme = scheme
      tiles = nil
    }
    guard scalesType.block.elements == 1, BlockCodec.codec(for: scalesType) != nil || scalesType == .u8 else {
      throw CheckpointError(.unsupported, "scales cannot be \(scalesType)")
    }
  }

  // MARK: - Sizes

  private var geometry: SchemeGeometry { stored.scheme.geometry }

  /// The bytes of a row of codes.
  public var codeRowBytes: Int { columns / geometry.codesPerElement * geometry.codesType.block.bytes }

  /// The number of scale rows of one matrix.
  public var scaleRows: Int { geometry.scaleRows(of: rows) }

  /// The number of scale columns.
  public var scaleColumns: Int { geometry.scaleColumns(of: columns) }

  /// The bytes of a row of scales.
  public var scaleRowBytes: Int { scaleColumns * scalesType.block.bytes }

  /// Which rows of scales some rows of a matrix need.
  public func scaleRows(for some: Range<Int>) -> Range<Int> { geometry.scaleRows(for: some) }
}

// MARK: - Decoding

extension SchemeDecoder {
  /// Decodes rows of one matrix.
  ///
  /// - Parameters:
  ///   - codes: The rows' codes.
  ///   - scales: The scale rows given by ``scaleRows(for:)``, little-endian.
  ///   - some: The rows, counted in their matrix.
  ///   - matrixScale: The scale of the matrix as it is stored; 1 where the scheme has none.
  ///   - values: Receives `columns` values for each row.
  /// - Throws: `.malformed` if the sizes do not match, or the scale of the matrix is not a positive number.
  public func decode(
    _ codes: RawSpan, scales: RawSpan, rows some: Range<Int>, matrixScale: Float = 1,
    into values: inout MutableSpan<Float>
  ) throws(CheckpointError) {
    guard scales.byteCount == scaleRows(for: some).count * scaleRowBytes else {
      throw CheckpointError(
        .malformed, "\(scales.byteCount) bytes are not the scales of \(some.count) rows (\(stored.scheme))")
    }
    if let tiles {
      try decode(codes, scales, tiles, some, &values)
    } else if let scheme {
      try decode(codes, scales, scheme, matrixScale, &values)
    }
  }

  private func decode(
    _ codes: RawSpan, _ scales: RawSpan, _ tiles: BlockFP8, _ some: Range<Int>,
    _ values: inout MutableSpan<Float>
  ) throws(CheckpointError) {
    // A band of the matrix that starts and ends on tile boundaries.
    let first = scaleRows(for: some).lowerBound * tiles.tileRows
    let last = min(rows, scaleRows(for: some).upperBound * tiles.tileRows)
    guard first < last else { return }
    let band = try BlockFP8(
      rows: last - first, columns: columns, tileRows: tiles.tileRows, tileColumns: tiles.tileColumns)
    let factors = try floats(scales)
    try band.decode(codes, scales: factors.span, firstRow: some.lowerBound - first, into: &values)
  }

  private func decode(
    _ codes: RawSpan, _ scales: RawSpan, _ scheme: RowScheme, _ matrixScale: Float,
    _ values: inout MutableSpan<Float>
  ) throws(CheckpointError) {
    let own = geometry.scalesType
    if scalesType == own || (own == .u8 && scalesType == .f8E8M0) {
      try scheme.decode(
        codes: codes, scales: scales, columns: columns, matrixScale: matrixScale, into: &values)
      return
    }
    let factors = try floats(scales)
    if own == .f32 {
      let bytes = littleEndian(factors)
      try unsafe scheme.decode(
        codes: codes, scales: bytes.span.bytes, columns: columns, matrixScale: matrixScale, into: &values)
      return
    }
    // Scales that would lose precision are multiplied in afterwards.
    let ones = [UInt16](repeating: UInt16(0x3F80).littleEndian, count: factors.count)
    guard own == .bf16 else {
      throw CheckpointError(.unsupported, "\(stored.scheme) has no scales of type \(scalesType)")
    }
    try unsafe scheme.decode(
      codes: codes, scales: ones.span.bytes, columns: columns, matrixScale: matrixScale, into: &values)
    let length = stored.scheme.groupLength ?? columns
    for index in 0..<values.count { values[index] *= factors[index / length] }
  }

  private func floats(_ scales: RawSpan) throws(CheckpointError) -> [Float] {
    guard let codec = BlockCodec.codec(for: scalesType) else {
      throw CheckpointError(.unsupported, "scales cannot be \(scalesType)")
    }
    var values = [Float](repeating: 0, count: scales.byteCount / scalesType.block.bytes)
    var span = values.mutableSpan
    try codec.decode(scales, into: &span)
    return values
  }

  private func littleEndian(_ values: [Float]) -> [UInt32] { values.map { $0.bitPattern.littleEndian } }
}
