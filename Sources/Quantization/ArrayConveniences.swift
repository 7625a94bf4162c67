public import TensorFormats

// The same on arrays, for a few rows at a time: each call allocates its result.

extension BlockCodec {
  /// Decodes whole blocks to F32; as ``decode(_:into:tier:)``, which allocates nothing.
  ///
  /// - Parameters:
  ///   - blocks: *n* blocks.
  ///   - tier: Which kernels to use.
  /// - Returns: *n* × `elementType.block.elements` values, in block order.
  /// - Throws: `.malformed` if the bytes are not whole blocks.
  public func decode(_ blocks: [UInt8], tier: KernelTier = .active) throws(CheckpointError) -> [Float] {
    let block = elementType.block
    var values = [Float](repeating: 0, count: blocks.count / block.bytes * block.elements)
    var span = values.mutableSpan
    try unsafe decode(blocks.span.bytes, into: &span, tier: tier)
    return values
  }

  /// Encodes rows of F32; as ``encode(_:columns:importance:into:tier:)``, which allocates nothing.
  ///
  /// - Parameters:
  ///   - values: Rows of `columns` values, row-major. NaN and infinity must have been handled before.
  ///   - columns: The length of a row, a multiple of the block's elements.
  ///   - importance: `columns` non-negative weights, the same for every row; `nil` for none.
  ///   - tier: Which kernels to use.
  /// - Returns: The encoded rows.
  /// - Throws: As there.
  public func encode(
    _ values: [Float], columns: Int, importance: [Float]? = nil, tier: KernelTier = .active
  ) throws(CheckpointError) -> [UInt8] {
    // Rows that are not whole blocks are refused by the call below, whatever the buffer size.
    let byteCount = elementType.block.byteCount(ofElements: values.count) ?? 0
    var blocks = [UInt8](repeating: 0, count: byteCount)
    var span = blocks.mutableSpan
    var bytes = unsafe span.mutableBytes
    try encode(values.span, columns: columns, importance: importance?.span, into: &bytes, tier: tier)
    return blocks
  }
}

extension ErrorSums {
  /// The error of values that were stored and read back; as ``init(original:restored:tier:)``.
  ///
  /// - Throws: As there.
  public init(original: [Float], restored: [Float], tier: KernelTier = .active) throws(CheckpointError) {
    try self.init(original: original.span, restored: restored.span, tier: tier)
  }
}

extension FiniteCheck {
  /// The index of the first value that is NaN or infinite; as ``firstNonFinite(_:tier:)``.
  public static func firstNonFinite(_ values: [Float], tier: KernelTier = .active) -> Int? {
    firstNonFinite(values.span, tier: tier)
  }
}

extension RowScheme {
  /// Rows as a scheme stores them.
  public struct EncodedRows: Hashable, Sendable {
    /// ``RowScheme/codeBytes(columns:)`` for each row.
    public let codes: [UInt8]
    /// ``RowScheme/scaleBytes(columns:)`` for each row, little-endian.
    public let scales: [UInt8]
  }

  /// Encodes rows; as ``encode(_:columns:importance:matrixScale:search:codes:scales:tier:)``, which allocates nothing
  /// and returns what the search has gained.
  ///
  /// - Parameters:
  ///   - values: Rows of `columns` values, row-major. NaN and infinity must have been handled before.
  ///   - columns: The length of a row, whole groups.
  ///   - importance: `columns` finite weights from 0 on, the same for every row; `nil` for none. `absmax` ignores it.
  ///   - matrixScale: For schemes that have one: the scale of the matrix *as it is stored*.
  ///   - search: How scales are chosen.
  ///   - tier: Which kernels to use.
  /// - Throws: As there.
  public func encode(
    _ values: [Float], columns: Int, importance: [Float]? = nil, matrixScale: Float = 1, search: ScaleSearch,
    tier: KernelTier = .active
  ) throws(CheckpointError) -> EncodedRows {
    let rows = values.count / max(1, columns)
    var codes = [UInt8](repeating: 0, count: rows * (try codeBytes(columns: columns)))
    var scales = [UInt8](repeating: 0, count: rows * (try scaleBytes(columns: columns)))
    var codeSpan = codes.mutableSpan
    var scaleSpan = scales.mutableSpan
    var codeBytes = unsafe codeSpan.mutableBytes
    var scaleBytes = unsafe scaleSpan.mutableBytes
    try encode(
      values.span, columns: columns, importance: importance?.span, matrixScale: matrixScale, search: search,
      codes: &codeBytes, scales: &scaleBytes, tier: tier)
    return EncodedRows(codes: codes, scales: scales)
  }

  /// Decodes rows; as ``decode(codes:scales:columns:matrixScale:into:tier:)``, which allocates nothing.
  ///
  /// - Returns: `columns` values for each row.
  /// - Throws: As there.
  public func decode(
    _ rows: EncodedRows, columns: Int, matrixScale: Float = 1, tier: KernelTier = .active
  ) throws(CheckpointError) -> [Float] {
    let count = rows.codes.count / max(1, try codeBytes(columns: columns))
    var values = [Float](repeating: 0, count: count * columns)
    var span = values.mutableSpan
    try unsafe decode(
      codes: rows.codes.span.bytes, scales: rows.scales.span.bytes, columns: columns,
      matrixScale: matrixScale,
      into: &span, tier: tier)
    return values
  }
}
