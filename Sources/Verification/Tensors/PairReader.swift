internal import ByteStreams
internal import Checkpoint
internal import ModelWeights
internal import Quantization
internal import TensorFormats

/// Reads one matrix of a pair from both sides.
struct PairReader: Sendable {
  private let candidate: MatrixReader
  private let source: MatrixReader
  /// Where the piece begins in what `source` reads.
  private let firstRow: Int
  private let firstColumn: Int
  /// The number of the matrix in the whole tensor, and where the piece begins there.
  let matrix: Int
  let top: Int
  let left: Int
  /// What the matrix's own scale cannot resolve.
  let floor: Double

  /// Values of some rows from both sides.
  struct Scratch {
    var candidate: [Float] = []
    var source: [Float] = []
    fileprivate var candidateScratch = MatrixReader.Scratch()
    fileprivate var sourceScratch = MatrixReader.Scratch()
  }

  /// - Parameter inner: The number of the matrix in the candidate's piece.
  /// - Throws: As ``ModelWeights/MatrixReader``.
  init(_ pair: TensorPair, matrix inner: Int) throws(CheckpointError) {
    let box = pair.box
    let rank = box.extent.count
    top = rank < 2 ? 0 : box.origin[rank - 2]
    left = box.origin.last ?? 0
    // The piece's matrices as elements of a smaller tensor.
    let outer = Self.outer(box)
    matrix = outer.position(of: inner, in: TensorBox(wholeOf: outer.shape))
    candidate = try MatrixReader(
      pair.candidate, pair.candidateWeight, piece: pair.piece, matrix: inner)
    if let piece = pair.sourcePiece {
      let holder = piece.box
      source = try MatrixReader(
        pair.source, pair.sourceWeight, piece: piece,
        matrix: outer.position(of: inner, in: Self.outer(holder)))
      firstRow = top - (rank < 2 ? 0 : holder.origin[rank - 2])
      firstColumn = left - (holder.origin.last ?? 0)
    } else {
      source = try MatrixReader(pair.source, pair.sourceWeight, matrix: matrix)
      firstRow = top
      firstColumn = left
    }
    floor = try Self.floor(pair.piece.stored, matrix: inner, in: pair.candidate.checkpoint)
  }

  private static func outer(_ box: TensorBox) -> TensorBox {
    let shape = TensorShape(Array(box.shape.dimensions.dropLast(2)))
    return TensorBox(shape, origin: Array(box.origin.dropLast(2)), extent: Array(box.extent.dropLast(2)))
      ?? TensorBox(wholeOf: shape)
  }

  /// Reads rows of the piece; ``Scratch/source`` and ``Scratch/candidate`` then begin with them.
  func read(_ rows: Range<Int>, _ scratch: inout Scratch) throws(CheckpointError) {
    try Self.read(candidate, rows, &scratch.candidate, &scratch.candidateScratch)
    let wanted = rows.lowerBound + firstRow..<rows.upperBound + firstRow
    try Self.read(source, wanted, &scratch.source, &scratch.sourceScratch)
    guard source.columns != candidate.columns else { return }
    // The rows move towards the front, so nothing is overwritten before it was moved.
    var all = scratch.source.mutableSpan
    for row in 0..<rows.count {
      let from = row * source.columns + firstColumn
      let to = row * candidate.columns
      for column in 0..<candidate.columns { all[to + column] = all[from + column] }
    }
  }

  private static func read(
    _ reader: MatrixReader, _ rows: Range<Int>, _ values: inout [Float], _ scratch: inout MatrixReader.Scratch
  ) throws(CheckpointError) {
    let count = rows.count * reader.columns
    if values.count < count { values = [Float](repeating: 0, count: count) }
    var all = values.mutableSpan
    var target = all._mutatingExtracting(..<count)
    try reader.read(rows, into: &target, &scratch)
  }

  /// What the largest scale of a matrix leaves of the smallest values: half of the smallest step.
  ///
  /// Formats with one scale for the whole matrix lose small rows to a large one; only the scale tells how much.
  private static func floor(
    _ stored: StoredWeight, matrix: Int, in checkpoint: Checkpoint
  ) throws(CheckpointError) -> Double {
    let tensor: Checkpoint.Tensor?
    switch stored.scheme?.scheme {
    case .nvfp4: tensor = stored.matrixScales
    case .fp8Block(let rows, let columns)
    where rows > ErrorBound.largestTile || columns > ErrorBound.largestTile:
      tensor = stored.scales
    default: return 0
    }
    guard let tensor, let scheme = stored.scheme, let codec = BlockCodec.codec(for: tensor.elementType) else {
      return 0
    }
    let matrices = max(1, stored.shape.dimensions.dropLast(2).reduce(1, *))
    let count = tensor.shape.elementCount / matrices
    let bytes = count * tensor.elementType.block.bytes
    let start = tensor.byteRange.lowerBound + matrix * bytes
    let raw = try checkpoint.files[tensor.file].source.readBytes(start..<start + bytes)
    var values = [Float](repeating: 0, count: count)
    var span = values.mutableSpan
    try unsafe codec.decode(raw.span.bytes, into: &span)
    let largest = values.reduce(0) { max($0, $1.magnitude) }
    guard largest > 0, largest.isFinite else { return 0 }
    // F8_E4M3 has steps of 2^-9 at its lower end; those of NVFP4 are scales of codes up to 6.
    guard scheme.scheme == .nvfp4 else { return 0x1p-10 * Double(largest) }
    return 6 * 0x1p-10 * (scheme.dividesByMatrixScale ? 1 / Double(largest) : Double(largest))
  }
}
