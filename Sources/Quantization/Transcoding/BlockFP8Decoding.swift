internal import CBlockKernels
public import TensorFormats

extension BlockFP8 {
  /// Decodes rows of whole matrices or of a part of one.
  ///
  /// - Parameters:
  ///   - codes: Whole rows.
  ///   - scales: *All* scales of the *n* matrices that the rows are from. BF16 scales are decoded beforehand.
  ///   - firstRow: The row of the stacked matrices (of *n* × `rows`) with which `codes` begins.
  ///   - values: Receives one value per code.
  ///   - tier: The kernels to use.
  /// - Throws: `.malformed` if the sizes do not match.
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
            let start = tile * tileColumns
            let offset = row * columns + start
            unsafe cbk_decode_scaled_f8_e4m3(
              tier.kernelValue, from + offset, scales[firstScale + tile], to + offset,
              min(tileColumns, columns - start))
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
          * scales[firstScale(ofRow: firstRow + row) + column / tileColumns]
      }
    }
  }

  private func firstScale(ofRow row: Int) -> Int {
    let (matrix, inside) = row.quotientAndRemainder(dividingBy: rows)
    return matrix * scaleCount + inside / tileRows * scaleColumns
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
