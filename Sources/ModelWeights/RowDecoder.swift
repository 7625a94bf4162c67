internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import Quantization
internal import TensorFormats

/// Reads rows of one stored matrix and makes F32 of them.
struct RowDecoder: Sendable {
  /// How bytes become values.
  private enum Form: Sendable {
    case values(BlockCodec)
    /// Tiles of the toolkit's own size, all scales of the matrix at hand.
    case standardTiles(BlockFP8, scales: [Float])
    /// Tiles of any other size: codes of any codec, scales of the matrix.
    case tiles(BlockCodec, rows: Int, columns: Int, across: Int, scales: [Float])
    /// One scale per row, of any type.
    case rowScales(BlockCodec?, scales: [Float])
    /// Scales of groups, read with their rows.
    case groups(RowScheme, scales: GroupScales, matrixScale: Float)
  }

  /// Where the scales of groups are.
  private struct GroupScales: Sendable {
    let source: any ByteSource
    /// Where those of the first row begin.
    let start: Int
    let bytesPerRow: Int
  }

  let bytesPerRow: Int
  private let source: any ByteSource
  private let order: GGUFByteOrder
  private let elementType: ElementType
  /// Where the first row begins.
  private let start: Int
  private let columns: Int
  /// The first row in the stored matrix, for tiles.
  private let firstRow: Int
  private let form: Form

  /// - Parameters:
  ///   - matrix: The number of the stored matrix in its stack.
  ///   - firstRow: The stored row that is row 0 here.
  ///   - rowAxes: How many of the last axes make a row: more than one flattens small matrices of a stack, such as the
  ///     kernels of a convolution.
  init(
    _ stored: StoredWeight, in checkpoint: Checkpoint, matrix: Int, firstRow: Int, rowAxes: Int = 1
  ) throws(CheckpointError) {
    let codes = stored.codes
    let file = checkpoint.files[codes.file]
    source = file.source
    order = file.byteOrder
    elementType = codes.elementType
    let shape = stored.shape
    // Elements of a tensor that exists, so that no product overflows.
    columns = shape.dimensions.suffix(rowAxes).reduce(1, *)
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
    func codec() throws(CheckpointError) -> BlockCodec {
      guard let codec = BlockCodec.codec(for: codes.elementType) else {
        throw CheckpointError(
          .unsupported, "\(codes.elementType) holds no real numbers",
          path: checkpoint.files[codes.file].source.path,
          tensor: codes.name)
      }
      return codec
    }
    guard let scheme = stored.scheme?.scheme, let scales = stored.scales else {
      form = .values(try codec())
      return
    }
    let perMatrix = scales.shape.elementCount / max(1, shape.dimensions.dropLast(2).reduce(1, *))
    switch scheme {
    case .fp8Block(BlockFP8.side, BlockFP8.side):
      form = .standardTiles(
        try BlockFP8(rows: matrixRows, columns: columns),
        scales: try Self.scales(scales, matrix: matrix, count: perMatrix, in: checkpoint))
    case .fp8Block(let rows, let columns):
      form = .tiles(
        try codec(), rows: rows, columns: columns, across: (shape.columns + columns - 1) / columns,
        scales: try Self.scales(scales, matrix: matrix, count: perMatrix, in: checkpoint))
    case .fp8Channel:
      form = .rowScales(
        try codec(), scales: try Self.scales(scales, matrix: matrix, count: perMatrix, in: checkpoint))
    case .int8Channel:
      form = .rowScales(
        nil, scales: try Self.scales(scales, matrix: matrix, count: perMatrix, in: checkpoint))
    case .int4Group, .nvfp4, .mxfp4:
      guard let named = stored.scheme else { preconditionFailure("it has a scheme") }
      let codec = try RowScheme(named)
      let scaleBytes = try codec.scaleBytes(columns: columns)
      var matrixScale: Float = 1
      if let tensor = stored.matrixScales {
        matrixScale = try Self.scales(tensor, matrix: matrix, count: 1, in: checkpoint)[0]
      }
      form = .groups(
        codec,
        scales: GroupScales(
          source: checkpoint.files[scales.file].source,
          start: scales.byteRange.lowerBound + (matrix * matrixRows + firstRow) * scaleBytes,
          bytesPerRow: scaleBytes), matrixScale: matrixScale)
    }
  }

  /// The scales of one matrix, as F32.
  private static func scales(
    _ tensor: Checkpoint.Tensor, matrix: Int, count: Int, in checkpoint: Checkpoint
  ) throws(CheckpointError) -> [Float] {
    let file = checkpoint.files[tensor.file]
    guard let codec = BlockCodec.codec(for: tensor.elementType) else {
      throw CheckpointError(
        .unsupported, "scales cannot be \(tensor.elementType)", path: file.source.path, tensor: tensor.name)
    }
    let bytes = count * tensor.elementType.block.bytes
    let start = tensor.byteRange.lowerBound + matrix * bytes
    let raw = try file.source.readBytes(start..<start + bytes)
    var values = [Float](repeating: 0, count: count)
    var span = values.mutableSpan
    try unsafe codec.decode(raw.span.bytes, into: &span)
    return values
  }

  func prefetch(_ rows: Range<Int>) {
    source.prefetch(start + rows.lowerBound * bytesPerRow..<start + rows.upperBound * bytesPerRow)
  }

  /// Reads and decodes rows into `values`, which holds just them.
  func read(
    _ rows: Range<Int>, into values: inout MutableSpan<Float>, _ bytes: inout [UInt8]
  ) throws(CheckpointError) {
    let count = rows.count * bytesPerRow
    if bytes.count < count { bytes = [UInt8](repeating: 0, count: count) }
    do {
      var span = bytes.mutableSpan
      var all = unsafe span.mutableBytes
      var target = all._mutatingExtracting(..<count)
      try source.read(into: &target, at: start + rows.lowerBound * bytesPerRow)
      if order == .big { GGUFByteOrder.swapPayload(elementType, &target) }
    }
    let codes = unsafe bytes.span.bytes.extracting(..<count)
    switch form {
    case .values(let codec): try codec.decode(codes, into: &values)
    case .standardTiles(let tiles, let scales):
      try tiles.decode(codes, scales: scales.span, firstRow: firstRow + rows.lowerBound, into: &values)
    case .tiles(let codec, let height, let width, let across, let scales):
      try codec.decode(codes, into: &values)
      for row in 0..<rows.count {
        let first = (firstRow + rows.lowerBound + row) / height * across
        for tile in 0..<across {
          let scale = scales[first + tile]
          let end = min((tile + 1) * width, columns)
          for column in tile * width..<end { values[row * columns + column] *= scale }
        }
      }
    case .groups(let codec, let scales, let matrixScale):
      let first = scales.start + rows.lowerBound * scales.bytesPerRow
      let raw = try scales.source.readBytes(first..<first + rows.count * scales.bytesPerRow)
      try codec.decode(
        codes: codes, scales: unsafe raw.span.bytes, columns: columns, matrixScale: matrixScale, into: &values
      )
    case .rowScales(let codec, let scales):
      if let codec {
        try codec.decode(codes, into: &values)
      } else {
        for index in 0..<codes.byteCount {
          values[index] = Float(unsafe codes.unsafeLoad(fromByteOffset: index, as: Int8.self))
        }
      }
      for row in 0..<rows.count {
        let scale = scales[firstRow + rows.lowerBound + row]
        for column in row * columns..<(row + 1) * columns { values[column] *= scale }
      }
    }
  }
}
