internal import ByteStreams
internal import StoredWeights
internal import TensorFormats

extension RowDecoder {
  /// Decodes rows that were read into buffers to F32.
  ///
  /// - Throws: As ``decode(_:scales:matrixScale:rows:into:)``.
  func decode(
    _ codes: BufferPool.Buffer, scales: BufferPool.Buffer?, matrixScale: Float, rows: Range<Int>,
    _ pool: BufferPool
  ) throws(CheckpointError) -> BufferPool.Buffer {
    let values = pool.take(rows.count * columns * MemoryLayout<Float>.stride)
    try values.fill { (span) throws(CheckpointError) in
      var floats = unsafe span._unsafeMutableView(as: Float.self)
      let none = codes.bytes.extracting(0..<0)
      if let scales {
        try decode(
          codes.bytes, scales: scales.bytes, matrixScale: matrixScale, rows: rows, into: &floats)
      } else {
        try decode(codes.bytes, scales: none, matrixScale: matrixScale, rows: rows, into: &floats)
      }
    }
    return values
  }
}
