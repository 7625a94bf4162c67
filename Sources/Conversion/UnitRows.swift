internal import ByteStreams
internal import Checkpoint
internal import Quantization
internal import ShardPlanning
internal import TensorFormats

/// A unit's rows as they are recoded: the source's own, or F32 where they have been multiplied with their scales, or
/// taken out of their blocks.
struct UnitRows {
  let elementType: ElementType
  let rowBytes: Int
  let buffer: BufferPool.Buffer
  /// Whether the bytes are the source's.
  let areSource: Bool

  init(
    _ unit: WorkUnit, _ view: SourceView, _ content: BufferPool.Buffer, of processor: UnitProcessor
  ) throws(CheckpointError) {
    areSource = view.scale == nil && !view.decodesFirst
    guard !areSource else {
      (elementType, rowBytes, buffer) = (view.elementType, view.rowBytes, content)
      return
    }
    let values = processor.pool.take(unit.rowCount * view.columns * MemoryLayout<Float>.stride)
    if let scale = view.scale {
      // Units of scaled tensors stay within one matrix, whose scales are a few kilobytes.
      let (matrix, firstRow) = unit.firstRow.quotientAndRemainder(dividingBy: view.matrixRows)
      let tiles = try BlockFP8(rows: view.matrixRows, columns: view.columns)
      let scales = try processor.scales(scale, matrix: matrix, count: tiles.scaleCount)
      try values.fill { (span) throws(CheckpointError) in
        var floats = unsafe span._unsafeMutableView(as: Float.self)
        try tiles.decode(content.bytes, scales: scales.span, firstRow: firstRow, into: &floats)
      }
    } else {
      guard let codec = BlockCodec.codec(for: view.elementType) else {
        throw CheckpointError(.unsupported, "\(view.elementType) holds no real numbers")
      }
      try values.fill { (span) throws(CheckpointError) in
        var floats = unsafe span._unsafeMutableView(as: Float.self)
        try codec.decode(content.bytes, into: &floats)
      }
    }
    (elementType, rowBytes, buffer) = (.f32, view.columns * MemoryLayout<Float>.stride, values)
  }

  /// The bytes of so many neighbouring elements.
  func byteCount(of columns: Range<Int>) -> Int {
    columns.count / elementType.block.elements * elementType.block.bytes
  }

  /// Puts the wanted columns of a run of rows side by side. The planner cuts columns on block boundaries only.
  ///
  /// - Returns: The bytes written.
  @discardableResult
  func gather(
    _ run: Range<Int>, _ columns: Range<Int>, into target: inout MutableRawSpan, at offset: Int
  ) -> Int {
    let block = elementType.block
    let start = columns.lowerBound / block.elements * block.bytes
    let length = byteCount(of: columns)
    let bytes = buffer.bytes
    var position = offset
    for row in run {
      let first = row * rowBytes + start
      target.copy(bytes.extracting(first..<first + length), to: position)
      position += length
    }
    return position - offset
  }
}

extension UnitProcessor {
  /// The scales of one matrix of a stack, as F32.
  fileprivate func scales(
    _ scale: ShardPlan.Scale, matrix: Int, count: Int
  ) throws(CheckpointError) -> [Float] {
    let bytes = count * scale.elementType.block.bytes
    let start = scale.offset + matrix * bytes
    let raw = try checkpoint.files[scale.file].source.readBytes(start..<start + bytes)
    guard let codec = BlockCodec.codec(for: scale.elementType) else {
      throw CheckpointError(.unsupported, "scales cannot be \(scale.elementType)", tensor: scale.tensor)
    }
    var values = [Float](repeating: 0, count: count)
    var span = values.mutableSpan
    try unsafe codec.decode(raw.span.bytes, into: &span)
    return values
  }
}

extension MutableRawSpan {
  /// Copies all of `source` to `offset`.
  @_lifetime(self: copy self)
  mutating func copy(_ source: RawSpan, to offset: Int) {
    precondition(offset >= 0 && offset + source.byteCount <= byteCount)
    unsafe withUnsafeMutableBytes { target in
      unsafe source.withUnsafeBytes {
        unsafe UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + $0.count]).copyMemory(
          from: $0)
      }
    }
  }
}
