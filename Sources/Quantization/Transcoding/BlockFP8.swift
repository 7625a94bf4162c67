internal import CBlockKernels
public import TensorFormats

/// Block-FP8: F8_E4M3 codes with one F32 scale for each tile of 128 x 128 elements of a matrix, as DeepSeek-V3 and
/// StepFun publish their models (`weight` and `weight_scale_inv`).
///
///     scale = max(amax, 1e-12) / 448          in F32, amax = the tile's largest magnitude
///     code  = F8_E4M3(x / scale)              the quotient in F32, then to nearest, ties to even, saturating
///     value = code * scale                    in F32
///
/// The floor of 1e-12 keeps a tile of zeros from dividing by zero; its codes are zeros. Tiles at the right and lower
/// edge are partial. A stacked tensor [E, R, C] is E matrices, none of whose tiles reaches into the next; scales are
/// [E, ceil(R/128), ceil(C/128)].
///
/// Rows can be encoded in bands: any multiple of 128 rows from a multiple of 128 on is, with its rows of scales, what
/// a matrix of that height gives.
public struct BlockFP8: Hashable, Sendable {
  /// The side of a tile.
  public static let side = 128

  /// The rows of one matrix.
  public let rows: Int
  /// The columns of one matrix.
  public let columns: Int

  /// Describes matrices of one size.
  ///
  /// - Throws: `.malformed` if a dimension is not positive or their product overflows.
  public init(rows: Int, columns: Int) throws(CheckpointError) {
    guard rows > 0, columns > 0, TensorShape(checking: [rows, columns]) != nil else {
      throw CheckpointError(
        .malformed, "a matrix of \(rows) x \(columns) elements cannot be divided into tiles")
    }
    self.rows = rows
    self.columns = columns
  }

  /// Tiles above each other.
  public var scaleRows: Int { (rows - 1) / Self.side + 1 }
  /// Tiles beside each other.
  public var scaleColumns: Int { (columns - 1) / Self.side + 1 }
  /// Scales of one matrix.
  public var scaleCount: Int { scaleRows * scaleColumns }

  /// A tile's F32 values, before and after: the buffers that one thread needs.
  public struct Scratch: Sendable {
    fileprivate var values = [Float](repeating: 0, count: BlockFP8.side * BlockFP8.side)
    fileprivate var restored = [Float](repeating: 0, count: BlockFP8.side * BlockFP8.side)

    /// Makes the buffers.
    public init() {}
  }

  /// The scale of a tile whose largest magnitude is `amax`.
  public static func scale(amax: Float) -> Float { max(amax, 1e-12) / 448 }
}

// MARK: - Encoding

extension BlockFP8 {
  /// Encodes whole matrices.
  ///
  /// - Parameters:
  ///   - source: *n* matrices, row-major.
  ///   - type: The element type of `source`, one whose elements are stored one by one.
  ///   - codes: Receives *n* × `rows` × `columns` bytes.
  ///   - scales: Receives *n* × `scaleCount` scales.
  ///   - scratch: Buffers.
  ///   - measures: Whether to decode what was encoded and compare.
  ///   - firstRow: The number of the first row in its tensor, for error messages.
  ///   - tier: The kernels to use.
  /// - Returns: The error sums; empty where measuring was switched off.
  /// - Throws: `.malformed` if the sizes do not fit each other, `.unsupported` for other source types, `.nonFinite`
  ///   for NaN or infinity: one of them would spoil the scale of 16,384 elements.
  /// - Complexity: O(*n* × `rows` × `columns`); allocates nothing unless it throws.
  @discardableResult
  public func encode(
    _ source: RawSpan, from type: ElementType, codes: inout MutableRawSpan, scales: inout MutableSpan<Float>,
    scratch: inout Scratch, measures: Bool = true, firstRow: Int = 0, tier: KernelTier = .active
  ) throws(CheckpointError) -> ErrorSums {
    guard type.block.elements == 1, let codec = BlockCodec.codec(for: type) else {
      throw CheckpointError(
        .unsupported, "block-FP8 is encoded from plain floating-point elements, not from \(type)")
    }
    let bytes = type.block.bytes
    let matrices = try checkSizes(codes: codes.byteCount, scales: scales.count)
    guard source.byteCount == codes.byteCount * bytes else {
      throw CheckpointError(
        .malformed, "\(source.byteCount) bytes are not \(codes.byteCount) elements of type \(type)")
    }
    var sums = ErrorSums()
    for tile in 0..<matrices * scaleCount {
      let place = place(ofTile: tile)
      for row in 0..<place.rows {
        let from = place.offset(ofRow: row, columns) * bytes
        var span = scratch.values.mutableSpan
        var values = span._mutatingExtracting((row * place.columns)..<((row + 1) * place.columns))
        try codec.decode(source.extracting(from..<(from + place.columns * bytes)), into: &values, tier: tier)
      }
      let scale: Float
      do {
        let values = scratch.values.span.extracting(0..<place.count)
        _ = try NonFinitePolicy.reject.check(
          values, firstRow: firstRow + place.row, firstColumn: place.column, stride: place.columns,
          target: .f8E4M3,
          tier: tier)
        scale = Self.scale(amax: Self.largest(values, tier))
        scales[tile] = scale
        unsafe values.withUnsafeBufferPointer { from in
          unsafe codes.withUnsafeMutableBytes { to in
            guard let from = from.baseAddress,
              let to = unsafe to.baseAddress?.assumingMemoryBound(to: UInt8.self)
            else { return }
            for row in 0..<place.rows {
              unsafe cbk_encode_scaled_f8_e4m3(
                tier.kernelValue, from + row * place.columns, scale, to + place.offset(ofRow: row, columns),
                place.columns)
            }
          }
        }
      }
      guard measures else { continue }
      restore(place, codes.bytes, scale, &scratch.restored, tier)
      sums.merge(
        try ErrorSums(
          original: scratch.values.span.extracting(0..<place.count),
          restored: scratch.restored.span.extracting(0..<place.count), tier: tier))
    }
    return sums
  }

  /// Encodes with the definition, element by element.
  ///
  /// - Throws: `.malformed` if the sizes do not fit each other.
  public func encodeReference(
    _ values: Span<Float>, codes: inout MutableRawSpan, scales: inout MutableSpan<Float>
  ) throws(CheckpointError) {
    let matrices = try checkSizes(codes: codes.byteCount, scales: scales.count)
    guard values.count == codes.byteCount else {
      throw CheckpointError(.malformed, "\(values.count) values for \(codes.byteCount) codes")
    }
    for tile in 0..<matrices * scaleCount {
      let place = place(ofTile: tile)
      var amax: Float = 0
      for row in 0..<place.rows {
        for column in 0..<place.columns {
          amax = max(amax, values[place.offset(ofRow: row, columns) + column].magnitude)
        }
      }
      let scale = Self.scale(amax: amax)
      scales[tile] = scale
      for row in 0..<place.rows {
        for column in 0..<place.columns {
          let at = place.offset(ofRow: row, columns) + column
          codes.storeBytes(of: EightBitFloat.e4m3.code(values[at] / scale), toByteOffset: at, as: UInt8.self)
        }
      }
    }
  }

  private static func largest(_ values: Span<Float>, _ tier: KernelTier) -> Float {
    unsafe values.withUnsafeBufferPointer {
      guard let from = $0.baseAddress else { return 0 }
      return unsafe cbk_largest_magnitude(tier.kernelValue, from, $0.count)
    }
  }

  private func restore(
    _ place: TilePlace, _ codes: RawSpan, _ scale: Float, _ restored: inout [Float], _ tier: KernelTier
  ) {
    unsafe codes.withUnsafeBytes { from in
      unsafe restored.withUnsafeMutableBufferPointer { to in
        guard let from = unsafe from.baseAddress?.assumingMemoryBound(to: UInt8.self), let to = to.baseAddress
        else {
          return
        }
        for row in 0..<place.rows {
          unsafe cbk_decode_scaled_f8_e4m3(
            tier.kernelValue, from + place.offset(ofRow: row, columns), scale, to + row * place.columns,
            place.columns)
        }
      }
    }
  }
}

// MARK: - Decoding

extension BlockFP8 {
  /// Decodes rows of whole matrices or of a part of one.
  ///
  /// - Parameters:
  ///   - codes: Whole rows.
  ///   - scales: *All* scales of the *n* matrices that the rows are from. BF16 scales are decoded beforehand.
  ///   - firstRow: The row of the stacked matrices (of *n* × `rows`) with which `codes` begins.
  ///   - values: Receives one value per code.
  ///   - tier: The kernels to use.
  /// - Throws: `.malformed` if the sizes do not fit each other.
  /// - Complexity: O(elements); allocates nothing.
  public func decode(
    _ codes: RawSpan, scales: Span<Float>, firstRow: Int = 0, into values: inout MutableSpan<Float>,
    tier: KernelTier = .active
  ) throws(CheckpointError) {
    let count = try checkRows(codes: codes.byteCount, scales: scales.count, firstRow: firstRow, values.count)
    unsafe codes.withUnsafeBytes { from in
      unsafe values.withUnsafeMutableBufferPointer { to in
        guard let from = unsafe from.baseAddress?.assumingMemoryBound(to: UInt8.self), let to = to.baseAddress
        else {
          return
        }
        for row in 0..<count {
          let firstScale = firstScale(ofRow: firstRow + row)
          for tile in 0..<scaleColumns {
            let start = tile * Self.side
            let offset = row * columns + start
            unsafe cbk_decode_scaled_f8_e4m3(
              tier.kernelValue, from + offset, scales[firstScale + tile], to + offset,
              min(Self.side, columns - start))
          }
        }
      }
    }
  }

  /// Decodes with the definition, element by element.
  ///
  /// - Throws: As ``decode(_:scales:firstRow:into:tier:)``.
  public func decodeReference(
    _ codes: RawSpan, scales: Span<Float>, firstRow: Int = 0, into values: inout MutableSpan<Float>
  ) throws(CheckpointError) {
    let count = try checkRows(codes: codes.byteCount, scales: scales.count, firstRow: firstRow, values.count)
    for row in 0..<count {
      for column in 0..<columns {
        let at = row * columns + column
        values[at] =
          EightBitFloat.e4m3.value(codes.byte(at))
          * scales[firstScale(ofRow: firstRow + row) + column / Self.side]
      }
    }
  }

  private func firstScale(ofRow row: Int) -> Int {
    let (matrix, inside) = row.quotientAndRemainder(dividingBy: rows)
    return matrix * scaleCount + inside / Self.side * scaleColumns
  }

  private func checkRows(codes: Int, scales: Int, firstRow: Int, _ values: Int) throws(CheckpointError) -> Int
  {
    let (count, rest) = codes.quotientAndRemainder(dividingBy: columns)
    let (matrices, left) = scales.quotientAndRemainder(dividingBy: scaleCount)
    guard rest == 0, left == 0, firstRow >= 0, firstRow <= matrices * rows - count, values == codes else {
      throw CheckpointError(
        .malformed,
        "\(codes) codes from row \(firstRow) on and \(scales) scales do not fit matrices of \(rows) x \(columns) "
          + "elements with \(scaleCount) scales each, into \(values) values")
    }
    return count
  }
}

// MARK: - Tiles

/// One tile of the stacked matrices.
private struct TilePlace {
  /// Its first row, of all stacked rows, and its first column.
  var row: Int
  var column: Int
  /// Its size.
  var rows: Int
  var columns: Int

  var count: Int { rows * columns }

  func offset(ofRow index: Int, _ rowLength: Int) -> Int { (row + index) * rowLength + column }
}

extension BlockFP8 {
  private func place(ofTile tile: Int) -> TilePlace {
    let (matrix, inside) = tile.quotientAndRemainder(dividingBy: scaleCount)
    let (down, across) = inside.quotientAndRemainder(dividingBy: scaleColumns)
    return TilePlace(
      row: matrix * rows + down * Self.side, column: across * Self.side,
      rows: min(Self.side, rows - down * Self.side), columns: min(Self.side, columns - across * Self.side))
  }

  private func checkSizes(codes: Int, scales: Int) throws(CheckpointError) -> Int {
    let (matrices, rest) = codes.quotientAndRemainder(dividingBy: rows * columns)
    guard rest == 0, scales == matrices * scaleCount else {
      throw CheckpointError(
        .malformed,
        "\(codes) codes and \(scales) scales are no whole number of matrices of \(rows) x \(columns) elements with "
          + "\(scaleCount) scales each")
    }
    return matrices
  }
}
