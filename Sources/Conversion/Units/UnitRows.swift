internal import ByteStreams
internal import Quantization
internal import ShardPlanning
internal import TensorFormats

/// Rows of elements stored contiguously in a buffer, from which columns can be extracted.
struct ContiguousRows {
  let buffer: BufferPool.Buffer
  let rowBytes: Int
  /// The elements and bytes of the smallest piece of a row.
  private let unit: (elements: Int, bytes: Int)

  /// Rows as the source stores them.
  init(_ content: BufferPool.Buffer, _ view: SourceView) {
    buffer = content
    rowBytes = view.rowBytes
    let block = view.elementType.block
    unit =
      view.scaling?.scheme.map { ($0.scheme.geometry.codesPerElement, block.bytes) }
      ?? (block.elements, block.bytes)
  }

  /// Rows of F32.
  init(values: BufferPool.Buffer, columns: Int) {
    buffer = values
    rowBytes = columns * MemoryLayout<Float>.stride
    unit = (1, MemoryLayout<Float>.stride)
  }

  /// The bytes of a range of columns.
  func byteCount(of columns: Range<Int>) -> Int { columns.count / unit.elements * unit.bytes }

  /// Gathers the requested columns of a run of rows. The planner cuts columns only at piece boundaries.
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

/// A unit's rows as they are converted: the source's own, or F32 if they have been multiplied by scales or decoded
/// from blocks.
struct UnitRows {
  let elementType: ElementType
  let packed: ContiguousRows
  /// Whether the bytes are the source's.
  let areSource: Bool

  /// - Throws: As ``RowDecoder``.
  init(
    _ fetched: FetchedUnit, _ view: SourceView, _ content: BufferPool.Buffer, _ pool: BufferPool
  ) throws(CheckpointError) {
    areSource = !view.decodesFirst
    guard view.decodesFirst, let decoder = view.decoder else {
      elementType = view.elementType
      packed = ContiguousRows(content, view)
      return
    }
    elementType = .f32
    packed = ContiguousRows(
      values: try decoder.decode(
        content, scales: fetched.scales, matrixScale: fetched.matrixScale, rows: fetched.unit.rowsInMatrix,
        pool),
      columns: view.columns)
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
