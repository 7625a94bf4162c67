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
  /// - Throws: `.malformed` if the sizes do not fit each other, `.unsupported` for other source types, `.nonFinite`
  ///   for NaN or infinity: one of them would spoil the scale of 16,384 elements; and, when measuring, for a finite
  ///   value that decodes to infinity.
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
    try checkTiles()
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
      restore(place, codes.bytes, scale, &scratch.restored, tier)
      try RangeCheck(.fp8Tiles).check(
        scratch.values.span.extracting(0..<place.count),
        restored: scratch.restored.span.extracting(0..<place.count),
        group: place.columns,
        at: RangeCheck.Place(
          firstRow: firstRow + place.row, firstColumn: place.column, stride: place.columns),
        tier: tier)
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
        .unsupported, "tiles of \(tileRows) x \(tileColumns) are read and not written",
        remedy: "tiles of \(Self.side) x \(Self.side) are written")
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
