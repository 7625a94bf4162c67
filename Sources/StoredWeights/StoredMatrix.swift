internal import ByteStreams
public import Checkpoint
public import TensorFormats

/// One matrix of a stored weight, whose rows can be read and decoded.
///
/// The value is immutable; any number of threads may share it, each with its own ``StoredRows``.
public struct StoredMatrix: Sendable {
  private let decoder: RowDecoder
  private let checkpoint: Checkpoint
  private let matrix: Int
  /// The stored row that is row 0 here.
  private let firstRow: Int
  private let matrixScale: Float

  /// Prepares a matrix; reads its scale, if it has one, and nothing else.
  ///
  /// - Parameters:
  ///   - stored: The tensor, and the scales that belong to it.
  ///   - checkpoint: Where they are.
  ///   - matrix: The index of the stored matrix in its stack.
  ///   - firstRow: The stored row that is row 0 here.
  ///   - rowAxes: How many trailing axes make up a row.
  /// - Throws: As ``RowDecoder``, and what reading throws.
  public init(
    _ stored: StoredWeight, in checkpoint: Checkpoint, matrix: Int, firstRow: Int, rowAxes: Int = 1
  ) throws(CheckpointError) {
    decoder = try RowDecoder(stored, in: checkpoint, rowAxes: rowAxes)
    self.checkpoint = checkpoint
    self.matrix = matrix
    self.firstRow = firstRow
    if let read = decoder.matrixScaleRead(ofMatrix: matrix) {
      let bytes = try checkpoint.files[read.file].source.readBytes(read.bytes)
      matrixScale = unsafe decoder.matrixScale(bytes.span.bytes)
    } else {
      matrixScale = 1
    }
  }

  /// The bytes of a row's values or codes.
  var rowBytes: Int { decoder.rowBytes }

  private func stored(_ rows: Range<Int>) -> Range<Int> {
    firstRow + rows.lowerBound..<firstRow + rows.upperBound
  }

  func prefetch(_ rows: Range<Int>) {
    let codes = decoder.reads(stored(rows), ofMatrix: matrix).codes
    checkpoint.files[codes.file].source.prefetch(codes.bytes)
  }

  /// Reads and decodes rows into `values`, which has exactly their size.
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
    stored.rows = self.stored(rows)
    let reads = decoder.reads(stored.rows, ofMatrix: matrix)
    let count = reads.codes.bytes.count
    stored.codeCount = count
    if stored.codes.count < count { stored.codes = [UInt8](repeating: 0, count: count) }
    do {
      var span = stored.codes.mutableSpan
      var all = unsafe span.mutableBytes
      var target = all._mutatingExtracting(..<count)
      try checkpoint.files[reads.codes.file].source.read(into: &target, at: reads.codes.bytes.lowerBound)
      decoder.makeLittleEndian(&target)
    }
    stored.scales = []
    if let scales = reads.scales {
      stored.scales = try checkpoint.files[scales.file].source.readBytes(scales.bytes)
    }
    stored.matrixScale = matrixScale
    stored.phase = decoder.phase(ofRow: stored.rows.lowerBound)
  }

  /// Decodes rows that ``read(_:into:)`` of this matrix read.
  ///
  /// - Parameters:
  ///   - stored: The tensor, and the scales that belong to it.
  ///   - values: Receives only those, row-major.
  /// - Throws: `.malformed` for blocks that no encoder writes.
  public func decode(
    _ stored: StoredRows, into values: inout MutableSpan<Float>
  ) throws(CheckpointError) {
    try unsafe decoder.decode(
      stored.codes.span.bytes.extracting(..<stored.codeCount), scales: stored.scales.span.bytes,
      matrixScale: stored.matrixScale, rows: stored.rows, into: &values)
  }
}
