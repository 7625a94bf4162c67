internal import ByteStreams
public import Checkpoint
internal import GGUF
internal import Quantization
public import TensorFormats

/// Reads rows of one stored matrix and makes F32 of them.
///
/// The value is immutable; any number of threads may share it, each with ``StoredRows`` of its own.
public struct RowDecoder: Sendable {
  /// How bytes become values.
  private enum Form: Sendable {
    /// The bytes hold values; all are multiplied with a factor, which is nearly always 1.
    case values(BlockCodec, factor: Float)
    /// The bytes are codes; their scales are read with them.
    case codes(SchemeDecoder, scales: any ByteSource, start: Int, matrixScale: Float)
  }

  let bytesPerRow: Int
  private let source: any ByteSource
  private let order: GGUFByteOrder
  private let elementType: ElementType
  /// Where the first row begins.
  private let start: Int
  /// The first row in the stored matrix.
  private let firstRow: Int
  private let form: Form

  /// Prepares a matrix; reads its scale, if it has one, and nothing else.
  ///
  /// - Parameters:
  ///   - matrix: The number of the stored matrix in its stack.
  ///   - firstRow: The stored row that is row 0 here.
  ///   - rowAxes: How many of the last axes make a row: more than one flattens small matrices of a stack, such as the
  ///     kernels of a convolution.
  /// - Throws: `.unsupported` for types that hold no real numbers and for scales that are not read.
  public init(
    _ stored: StoredWeight, in checkpoint: Checkpoint, matrix: Int, firstRow: Int, rowAxes: Int = 1
  ) throws(CheckpointError) {
    let codes = stored.codes
    let file = checkpoint.files[codes.file]
    source = file.source
    order = file.byteOrder
    elementType = codes.elementType
    let shape = stored.shape
    // Elements of a tensor that exists, so that no product overflows.
    let columns = shape.dimensions.suffix(rowAxes).reduce(1, *)
    let matrixRows = shape.rank <= rowAxes ? 1 : shape.dimensions[shape.rank - rowAxes - 1]
    let codeColumns = codes.shape.dimensions.suffix(rowAxes).reduce(1, *)
    guard let rowBytes = codes.elementType.block.byteCount(ofElements: codeColumns) else {
      throw CheckpointError(
        .unsupported, "rows of \(codeColumns) elements end inside a block (\(codes.elementType))",
        path: source.path, tensor: codes.name)
    }
    bytesPerRow = rowBytes
    start = codes.byteRange.lowerBound + (matrix * matrixRows + firstRow) * rowBytes
    self.firstRow = firstRow
    var matrixScale: Float = 1
    if let tensor = stored.matrixScales {
      matrixScale = try Self.scale(tensor, ofMatrix: matrix, in: checkpoint)
    }
    guard let scheme = stored.scheme, let scales = stored.scales else {
      guard let codec = BlockCodec.codec(for: codes.elementType) else {
        throw CheckpointError(
          .unsupported, "\(codes.elementType) holds no real numbers", path: source.path, tensor: codes.name)
      }
      form = .values(codec, factor: matrixScale)
      return
    }
    let decoder = try SchemeDecoder(
      scheme, rows: matrixRows, columns: columns, scalesType: scales.elementType)
    form = .codes(
      decoder, scales: checkpoint.files[scales.file].source,
      start: scales.byteRange.lowerBound + matrix * decoder.scaleRows * decoder.scaleRowBytes,
      matrixScale: matrixScale)
  }

  /// The scale of one matrix. A single one is for all of them.
  private static func scale(
    _ tensor: Checkpoint.Tensor, ofMatrix matrix: Int, in checkpoint: Checkpoint
  ) throws(CheckpointError) -> Float {
    let file = checkpoint.files[tensor.file]
    guard tensor.elementType == .f32 else {
      throw CheckpointError(
        .unsupported, "scales of matrices cannot be \(tensor.elementType)", path: file.source.path,
        tensor: tensor.name)
    }
    let start = tensor.byteRange.lowerBound + (tensor.shape.elementCount == 1 ? 0 : matrix * 4)
    var raw = try file.source.readBytes(start..<start + 4)
    if file.byteOrder == .big { raw.reverse() }
    return Float(
      bitPattern: UInt32(littleEndian: unsafe raw.span.bytes.unsafeLoadUnaligned(as: UInt32.self)))
  }

  func prefetch(_ rows: Range<Int>) {
    source.prefetch(start + rows.lowerBound * bytesPerRow..<start + rows.upperBound * bytesPerRow)
  }

  /// Reads and decodes rows into `values`, which holds just them.
  func read(
    _ rows: Range<Int>, into values: inout MutableSpan<Float>, _ stored: inout StoredRows
  ) throws(CheckpointError) {
    try read(rows, into: &stored)
    try decode(stored, into: &values)
  }

  /// Reads rows as they are stored, and the scales that they need.
  ///
  /// - Throws: `.truncated` and `.inputOutput` if reading fails.
  public func read(_ rows: Range<Int>, into stored: inout StoredRows) throws(CheckpointError) {
    let count = rows.count * bytesPerRow
    stored.rows = firstRow + rows.lowerBound..<firstRow + rows.upperBound
    stored.codeCount = count
    if stored.codes.count < count { stored.codes = [UInt8](repeating: 0, count: count) }
    do {
      var span = stored.codes.mutableSpan
      var all = unsafe span.mutableBytes
      var target = all._mutatingExtracting(..<count)
      try source.read(into: &target, at: start + rows.lowerBound * bytesPerRow)
      if order == .big { GGUFByteOrder.swapPayload(elementType, &target) }
    }
    switch form {
    case .values(_, let factor):
      stored.scales = []
      stored.matrixScale = factor
      stored.phase = 0
    case .codes(let decoder, let source, let first, let matrixScale):
      let needed = decoder.scaleRows(for: stored.rows)
      stored.scales = try source.readBytes(
        first + needed.lowerBound * decoder.scaleRowBytes..<first + needed.upperBound * decoder.scaleRowBytes)
      stored.matrixScale = matrixScale
      stored.phase =
        if case .fp8Block(let tileRows, _) = decoder.stored.scheme { stored.rows.lowerBound % tileRows } else
        {
          0
        }
    }
  }

  /// Decodes rows that ``read(_:into:)`` of this decoder read.
  ///
  /// - Parameter values: Receives just them, row-major.
  /// - Throws: `.malformed` for blocks that no encoder writes.
  public func decode(
    _ stored: StoredRows, into values: inout MutableSpan<Float>
  ) throws(CheckpointError) {
    let codes = unsafe stored.codes.span.bytes.extracting(..<stored.codeCount)
    switch form {
    case .values(let codec, let factor):
      try codec.decode(codes, into: &values)
      if factor != 1 { for index in values.indices { values[index] *= factor } }
    case .codes(let decoder, _, _, let matrixScale):
      try decoder.decode(
        codes, scales: unsafe stored.scales.span.bytes, rows: stored.rows, matrixScale: matrixScale,
        into: &values)
    }
  }
}
