internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import Quantization
internal import ShardPlanning
internal import TensorFormats

/// Rows of elements side by side in a buffer, of which columns can be taken out.
struct PackedRows {
  let buffer: BufferPool.Buffer
  let rowBytes: Int
  /// How many elements the smallest piece of a row has, and its bytes.
  private let unit: (elements: Int, bytes: Int)

  /// Rows as the source stores them.
  init(_ content: BufferPool.Buffer, _ view: SourceView) {
    buffer = content
    rowBytes = view.rowBytes
    let block = view.elementType.block
    unit =
      view.scaling?.scheme.map { ($0.scheme.codesPerElement, block.bytes) } ?? (block.elements, block.bytes)
  }

  /// Rows of F32.
  init(values: BufferPool.Buffer, columns: Int) {
    buffer = values
    rowBytes = columns * MemoryLayout<Float>.stride
    unit = (1, MemoryLayout<Float>.stride)
  }

  /// The bytes of so many neighbouring elements.
  func byteCount(of columns: Range<Int>) -> Int { columns.count / unit.elements * unit.bytes }

  /// Puts the wanted columns of a run of rows side by side. The planner cuts columns where pieces begin only.
  ///
  /// - Returns: The bytes written.
  @discardableResult
  func gather(
    _ run: Range<Int>, _ columns: Range<Int>, into target: inout MutableRawSpan, at offset: Int
  ) -> Int {
    let start = columns.lowerBound / unit.elements * unit.bytes
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

/// A unit's rows as they are converted: the source's own, or F32 where they have been multiplied with their scales, or
/// taken out of their blocks.
struct UnitRows {
  let elementType: ElementType
  let packed: PackedRows
  /// Whether the bytes are the source's.
  let areSource: Bool

  init(
    _ unit: WorkUnit, _ view: SourceView, _ content: BufferPool.Buffer, of processor: UnitProcessor
  ) throws(CheckpointError) {
    areSource = !view.decodesFirst
    guard view.decodesFirst else {
      elementType = view.elementType
      packed = PackedRows(content, view)
      return
    }
    let rows = SourceRows(
      elementType: view.elementType, columns: view.columns, matrixRows: view.matrixRows, scaling: view.scaling
    )
    elementType = .f32
    packed = PackedRows(
      values: try rows.decode(content, unit.firstRow..<unit.firstRow + unit.rowCount, of: processor),
      columns: view.columns)
  }
}

// MARK: - Decoding

/// Rows of one source tensor, and how they become values.
struct SourceRows {
  let elementType: ElementType
  let columns: Int
  let matrixRows: Int
  let scaling: ShardPlan.Scaling?

  /// The bytes of a row.
  var rowBytes: Int {
    elementType.block.byteCount(ofElements: columns / (scaling?.scheme?.scheme.codesPerElement ?? 1)) ?? 0
  }

  /// Decodes rows to F32.
  ///
  /// - Parameters:
  ///   - content: The rows' bytes, little-endian.
  ///   - rows: Counted over the whole tensor; of one matrix where there are scales.
  func decode(
    _ content: BufferPool.Buffer, _ rows: Range<Int>, of processor: UnitProcessor
  ) throws(CheckpointError) -> BufferPool.Buffer {
    let values = processor.pool.take(rows.count * columns * MemoryLayout<Float>.stride)
    let matrix = matrixRows == 0 ? 0 : rows.lowerBound / matrixRows
    if let scheme = scaling?.scheme, let scales = scaling?.scales {
      let decoder = try SchemeDecoder(
        scheme, rows: matrixRows, columns: columns, scalesType: scales.elementType)
      let first = rows.lowerBound - matrix * matrixRows
      let inside = first..<first + rows.count
      let wanted = decoder.scaleRows(for: inside)
      let start = scales.offset + (matrix * decoder.scaleRows + wanted.lowerBound) * decoder.scaleRowBytes
      let raw = try processor.checkpoint.files[scales.file].source.readBytes(
        start..<start + wanted.count * decoder.scaleRowBytes)
      let matrixScale = try scaling?.matrixScales.map { (scale) throws(CheckpointError) in
        try processor.matrixScale(scale, matrix)
      }
      try values.fill { (span) throws(CheckpointError) in
        var floats = unsafe span._unsafeMutableView(as: Float.self)
        try unsafe decoder.decode(
          content.bytes, scales: raw.span.bytes, rows: inside, matrixScale: matrixScale ?? 1, into: &floats)
      }
      return values
    }
    guard let codec = BlockCodec.codec(for: elementType) else {
      throw CheckpointError(.unsupported, "\(elementType) holds no real numbers")
    }
    try values.fill { (span) throws(CheckpointError) in
      var floats = unsafe span._unsafeMutableView(as: Float.self)
      try codec.decode(content.bytes, into: &floats)
      guard let scales = scaling?.matrixScales else { return }
      let factor = try processor.matrixScale(scales, matrix)
      for index in 0..<floats.count { floats[index] *= factor }
    }
    return values
  }
}

extension UnitProcessor {
  /// The scale of one matrix of a stack, as it is stored.
  func matrixScale(_ scales: ShardPlan.Scales, _ matrix: Int) throws(CheckpointError) -> Float {
    guard scales.elementType == .f32 else {
      throw CheckpointError(
        .unsupported, "scales of matrices cannot be \(scales.elementType)", tensor: scales.tensor)
    }
    let file = checkpoint.files[scales.file]
    let start = scales.offset + matrix * 4
    let bytes = try file.source.readBytes(start..<start + 4)
    let bits = bytes.reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
    return Float(bitPattern: file.byteOrder == .big ? bits.byteSwapped : bits)
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
