public import ByteStreams
public import Checkpoint
internal import GGUF
public import Quantization
public import TensorFormats

/// How rows of a stored weight become values: which bytes they need, and what these mean. The only decoder of stored
/// weights; it does no reading itself.
///
/// A weight is treated as a stack of matrices of equal size; a single matrix is a stack of one, a vector a matrix of
/// one row. Rows are counted within their matrix.
///
/// The value is immutable; any number of threads may share it.
public struct RowDecoder: Sendable {
  /// How bytes become values.
  private enum Form: Sendable {
    /// The bytes hold values; all are multiplied by the matrix's scale, which is nearly always 1.
    case values(BlockCodec)
    /// The bytes are codes with scales.
    case codes(SchemeDecoder)
  }

  /// Where a tensor begins, and its byte order.
  private struct Place: Sendable {
    let file: Int
    let start: Int
    let elementType: ElementType
    let order: GGUFByteOrder

    init(_ tensor: Checkpoint.Tensor, in checkpoint: Checkpoint) {
      file = tensor.file
      start = tensor.byteRange.lowerBound
      elementType = tensor.elementType
      order = checkpoint.files[tensor.file].byteOrder
    }

    func range(_ offset: Int, count: Int) -> FileRange {
      FileRange(file: file, bytes: start + offset..<start + offset + count)
    }
  }

  /// The elements of a row.
  public let columns: Int
  /// The rows of each matrix.
  public let matrixRows: Int
  /// The bytes of a row's values or codes.
  public let rowBytes: Int

  private let codes: Place
  private let scales: Place?
  private let matrixScales: Place?
  /// Whether one scale applies to all matrices.
  private let sharesMatrixScale: Bool
  private let form: Form

  /// Prepares for a weight; reads nothing.
  ///
  /// - Parameters:
  ///   - stored: The tensor, and the scales that belong to it.
  ///   - checkpoint: Where they are.
  ///   - rowAxes: How many trailing axes make up a row: more than one flattens small matrices of a stack, such as the
  ///     kernels of a convolution.
  /// - Throws: `.unsupported` for types that hold no real numbers and for unsupported scales.
  public init(
    _ stored: StoredWeight, in checkpoint: Checkpoint, rowAxes: Int = 1
  ) throws(CheckpointError) {
    let shape = stored.shape
    // Dimensions of an existing tensor, so that no product overflows.
    columns = shape.dimensions.suffix(rowAxes).reduce(1, *)
    matrixRows = shape.rank <= rowAxes ? 1 : shape.dimensions[shape.rank - rowAxes - 1]
    let path = checkpoint.files[stored.codes.file].source.path
    codes = Place(stored.codes, in: checkpoint)
    let type = stored.codes.elementType
    let codeColumns = stored.codes.shape.dimensions.suffix(rowAxes).reduce(1, *)
    guard let rowBytes = type.block.byteCount(ofElements: codeColumns) else {
      throw CheckpointError(
        .unsupported, "rows of \(codeColumns) elements end inside a block (\(type))", path: path,
        tensor: stored.codes.name)
    }
    self.rowBytes = rowBytes
    if let tensor = stored.matrixScales {
      guard tensor.elementType == .f32 else {
        throw CheckpointError(
          .unsupported, "scales of matrices cannot be \(tensor.elementType)",
          path: checkpoint.files[tensor.file].source.path, tensor: tensor.name)
      }
      matrixScales = Place(tensor, in: checkpoint)
    } else {
      matrixScales = nil
    }
    sharesMatrixScale = stored.matrixScales?.shape.elementCount == 1
    if let scheme = stored.scheme, let scales = stored.scales {
      form = .codes(
        try SchemeDecoder(scheme, rows: matrixRows, columns: columns, scalesType: scales.elementType))
      self.scales = Place(scales, in: checkpoint)
    } else {
      guard let codec = BlockCodec.codec(for: type) else {
        throw CheckpointError(
          .unsupported, "\(type) holds no real numbers", path: path, tensor: stored.codes.name)
      }
      form = .values(codec)
      scales = nil
    }
  }
}

// MARK: - What has to be read

extension RowDecoder {
  /// The bytes needed to decode some rows.
  public struct Reads: Hashable, Sendable {
    /// The values or codes.
    public let codes: FileRange
    /// The rows of scales that belong to them; `nil` for a weight without.
    public let scales: FileRange?
    /// The scale of their matrix; `nil` for a weight without.
    public let matrixScale: FileRange?
  }

  /// The bytes needed to decode some rows of a matrix.
  public func reads(_ rows: Range<Int>, ofMatrix matrix: Int) -> Reads {
    Reads(
      codes: codes.range((matrix * matrixRows + rows.lowerBound) * rowBytes, count: rows.count * rowBytes),
      scales: scaleReads(rows, ofMatrix: matrix), matrixScale: matrixScaleRead(ofMatrix: matrix))
  }

  private func scaleReads(_ rows: Range<Int>, ofMatrix matrix: Int) -> FileRange? {
    guard case .codes(let decoder) = form, let scales else { return nil }
    let needed = decoder.scaleRows(for: rows)
    return scales.range(
      (matrix * decoder.scaleRows + needed.lowerBound) * decoder.scaleRowBytes,
      count: needed.count * decoder.scaleRowBytes)
  }

  /// The scale of a matrix. A single one applies to all of them.
  public func matrixScaleRead(ofMatrix matrix: Int) -> FileRange? {
    matrixScales?.range(sharesMatrixScale ? 0 : matrix * 4, count: 4)
  }

  /// Swaps the bytes of values or codes from a big-endian file.
  public func makeLittleEndian(_ bytes: inout MutableRawSpan) {
    if codes.order == .big { GGUFByteOrder.swapPayload(codes.elementType, &bytes) }
  }

  /// The scale of a matrix, from the four bytes given by ``matrixScaleRead(ofMatrix:)``.
  public func matrixScale(_ bytes: RawSpan) -> Float {
    precondition(bytes.byteCount == 4)
    let bits = unsafe bytes.unsafeLoadUnaligned(as: UInt32.self)
    return Float(
      bitPattern: matrixScales?.order == .big ? UInt32(bigEndian: bits) : UInt32(littleEndian: bits))
  }
}

// MARK: - Decoding

extension RowDecoder {
  /// A row's offset within the rows that share its row of scales.
  func phase(ofRow row: Int) -> Int {
    guard case .codes(let decoder) = form else { return 0 }
    return row % decoder.stored.scheme.geometry.scaleHeight
  }

  /// The layout of the scales given by ``reads(_:ofMatrix:)``; `nil` for a weight without them.
  public var scaleLayout: SchemeDecoder? {
    guard case .codes(let decoder) = form else { return nil }
    return decoder
  }

  /// Decodes rows.
  ///
  /// - Parameters:
  ///   - codes: The values or codes, little-endian.
  ///   - scales: The rows of scales; empty for a weight without.
  ///   - matrixScale: The scale of the matrix as it is stored; 1 for a weight without.
  ///   - rows: The rows, counted in their matrix.
  ///   - values: Receives only those, row-major.
  /// - Throws: `.malformed` for blocks that no encoder writes, and sizes that do not match.
  /// - Complexity: O(elements).
  public func decode(
    _ codes: RawSpan, scales: RawSpan, matrixScale: Float, rows: Range<Int>,
    into values: inout MutableSpan<Float>
  ) throws(CheckpointError) {
    switch form {
    case .values(let codec):
      try codec.decode(codes, into: &values)
      if matrixScale != 1 { for index in values.indices { values[index] *= matrixScale } }
    case .codes(let decoder):
      try decoder.decode(codes, scales: scales, rows: rows, matrixScale: matrixScale, into: &values)
    }
  }
}
