internal import CBlockKernels
public import TensorFormats

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
  /// - Throws: `.malformed` if the sizes do not match, `.unsupported` for other source types, `.nonFinite` for NaN
  ///   or infinity: one of them would spoil the scale of 16,384 elements; and, when measuring, for a finite value
  ///   that decodes to infinity.
  /// - Complexity: O(*n* × `rows` × `columns`); allocates nothing unless it throws.
  @discardableResult
  public func encode(
    _ source: RawSpan, from type: ElementType, codes: inout MutableRawSpan, scales: inout MutableSpan<Float>,
    scratch: inout Scratch, measures: Bool = true, firstRow: Int = 0, tier: KernelTier = .active
  ) throws(CheckpointError) -> ErrorSums {
    let codec = try codec(for: type)
    let matrices = try checkSizes(
      source: source.byteCount, type, codes: codes.byteCount, scales: scales.count)
    var sums = ErrorSums()
    for tile in 0..<matrices * scaleCount {
      let place = place(ofTile: tile)
      try load(place, source, codec, &scratch, firstRow: firstRow, tier)
      let scale: Float
      do {
        let values = scratch.values.span.extracting(0..<place.count)
        scale = Self.scale(amax: LargestMagnitude.of(values, tier: tier))
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
      sums.merge(try measure(place, codes.bytes, scale, &scratch, firstRow: firstRow, tier))
    }
    return sums
  }

  /// Measures the loss of codes and scales that were made elsewhere.
  ///
  /// - Parameters: As ``encode(_:from:codes:scales:scratch:measures:firstRow:tier:)`` has them.
  /// - Throws: As that.
  public func compare(
    _ source: RawSpan, from type: ElementType, codes: RawSpan, scales: Span<Float>, scratch: inout Scratch,
    firstRow: Int = 0, tier: KernelTier = .active
  ) throws(CheckpointError) -> ErrorSums {
    let codec = try codec(for: type)
    let matrices = try checkSizes(
      source: source.byteCount, type, codes: codes.byteCount, scales: scales.count)
    var sums = ErrorSums()
    for tile in 0..<matrices * scaleCount {
      let place = place(ofTile: tile)
      try load(place, source, codec, &scratch, firstRow: firstRow, tier)
      sums.merge(try measure(place, codes, scales[tile], &scratch, firstRow: firstRow, tier))
    }
    return sums
  }

  private func codec(for type: ElementType) throws(CheckpointError) -> BlockCodec {
    guard type.block.elements == 1, let codec = BlockCodec.codec(for: type) else {
      throw CheckpointError(
        .unsupported, "block-FP8 is encoded from plain floating-point elements, not from \(type)")
    }
    return codec
  }

  /// The number of matrices with these sizes.
  private func checkSizes(
    source: Int, _ type: ElementType, codes: Int, scales: Int
  ) throws(CheckpointError) -> Int {
    try checkTiles()
    let matrices = try checkSizes(codes: codes, scales: scales)
    guard source == codes * type.block.bytes else {
      throw CheckpointError(.malformed, "\(source) bytes are not \(codes) elements of type \(type)")
    }
    return matrices
  }

  /// Decodes a tile of the source.
  private func load(
    _ place: TilePlace, _ source: RawSpan, _ codec: BlockCodec, _ scratch: inout Scratch, firstRow: Int,
    _ tier: KernelTier
  ) throws(CheckpointError) {
    let bytes = codec.elementType.block.bytes
    for row in 0..<place.rows {
      let from = place.offset(ofRow: row, columns) * bytes
      var span = scratch.values.mutableSpan
      var values = span._mutatingExtracting((row * place.columns)..<((row + 1) * place.columns))
      try codec.decode(source.extracting(from..<(from + place.columns * bytes)), into: &values, tier: tier)
    }
    _ = try NonFinitePolicy.reject.check(
      scratch.values.span.extracting(0..<place.count), firstRow: firstRow + place.row,
      firstColumn: place.column, stride: place.columns, target: .f8E4M3, tier: tier)
  }

  /// The loss of a loaded tile.
  private func measure(
    _ place: TilePlace, _ codes: RawSpan, _ scale: Float, _ scratch: inout Scratch, firstRow: Int,
    _ tier: KernelTier
  ) throws(CheckpointError) -> ErrorSums {
    restore(place, codes, scale, &scratch.restored, tier)
    try RangeCheck(.fp8Tiles).check(
      scratch.values.span.extracting(0..<place.count),
      restored: scratch.restored.span.extracting(0..<place.count),
      group: place.columns,
      at: RangeCheck.Place(
        firstRow: firstRow + place.row, firstColumn: place.column, stride: place.columns),
      tier: tier)
    return try ErrorSums(
      original: scratch.values.span.extracting(0..<place.count),
      restored: scratch.restored.span.extracting(0..<place.count), tier: tier)
  }

  /// Encodes with the definition, element by element.
  ///
  /// - Throws: `.malformed` if the sizes do not match.
  public func encodeReference(
    _ values: Span<Float>, codes: inout MutableRawSpan, scales: inout MutableSpan<Float>
  ) throws(CheckpointError) {
    try checkTiles()
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

  private func checkTiles() throws(CheckpointError) {
    guard tileRows == Self.side, tileColumns == Self.side else {
      throw CheckpointError(
        .unsupported, "tiles of \(tileRows) x \(tileColumns) can be read but not written",
        remedy: "use tiles of \(Self.side) x \(Self.side)")
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
