public import TensorFormats

/// A tensor whose rows are in several places, read as if they were contiguous.
///
/// The tensor is treated as a stack of matrices of equal size; a piece is a box of it: whole matrices, some rows of
/// each, or some columns of each row. Pieces must not overlap and must cover everything, which
/// ``init(path:matrices:rows:rowBytes:pieces:)`` checks.
public struct GatheredSource: ByteSource {
  /// A box of the tensor stored in one place, row after row without gaps.
  public struct Piece: Sendable {
    /// Where it is stored.
    public let source: any ByteSource
    /// Its first byte there.
    public let offset: Int
    /// Which matrices of the stack it has.
    public let matrices: Range<Int>
    /// Which rows of each of them.
    public let rows: Range<Int>
    /// Which bytes of each row.
    public let columns: Range<Int>

    /// Describes a piece.
    public init(
      _ source: any ByteSource, offset: Int, matrices: Range<Int>, rows: Range<Int>, columns: Range<Int>
    ) {
      self.source = source
      self.offset = offset
      self.matrices = matrices
      self.rows = rows
      self.columns = columns
    }

    fileprivate var byteCount: Int { matrices.count * rows.count * columns.count }
  }

  public let path: String
  private let matrixCount: Int
  private let rowCount: Int
  private let rowBytes: Int
  /// In the order of their first matrices.
  private let pieces: [Piece]
  /// The pieces of each matrix, as indices into ``pieces``.
  private let piecesOfMatrix: [[Int]]

  /// The most bytes of a piece that are read at a time when rows are not contiguous in the target.
  private static let stretch = 1 << 20

  /// Assembles pieces.
  ///
  /// - Parameters:
  ///   - path: The name of the whole in messages.
  ///   - matrices: How many matrices there are; 1 for a matrix or a vector.
  ///   - rows: Rows of each matrix; 1 for a vector.
  ///   - rowBytes: The bytes of a row.
  ///   - pieces: Which parts of which sources make up the whole, in any order.
  /// - Returns: `nil` unless the pieces are in bounds, do not overlap and cover everything.
  /// - Complexity: O(*n²*) in the number of pieces that one matrix has.
  public init?(path: String, matrices: Int, rows: Int, rowBytes: Int, pieces: [Piece]) {
    self.path = path
    matrixCount = matrices
    rowCount = rows
    self.rowBytes = rowBytes
    self.pieces = pieces
    var piecesOfMatrix = [[Int]](repeating: [], count: matrices)
    for (index, piece) in pieces.enumerated() {
      guard piece.matrices.lowerBound >= 0, piece.matrices.upperBound <= matrices,
        piece.rows.lowerBound >= 0, piece.rows.upperBound <= rows, piece.columns.lowerBound >= 0,
        piece.columns.upperBound <= rowBytes, piece.offset >= 0,
        piece.offset <= piece.source.byteCount - piece.byteCount
      else { return nil }
      for matrix in piece.matrices { piecesOfMatrix[matrix].append(index) }
    }
    for list in piecesOfMatrix {
      let own = list.map { pieces[$0] }
      guard own.reduce(0, { $0 + $1.rows.count * $1.columns.count }) == rows * rowBytes else { return nil }
      for (index, piece) in own.enumerated() {
        let overlaps = own[(index + 1)...].contains {
          $0.rows.overlaps(piece.rows) && $0.columns.overlaps(piece.columns)
        }
        guard !overlaps else { return nil }
      }
    }
    self.piecesOfMatrix = piecesOfMatrix
  }

  public var byteCount: Int { matrixCount * rowCount * rowBytes }

  public func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    try check(buffer.byteCount, at: offset)
    var done = 0
    while done < buffer.byteCount {
      let (row, column) = (offset + done).quotientAndRemainder(dividingBy: rowBytes)
      let (matrix, inside) = row.quotientAndRemainder(dividingBy: rowCount)
      let left = buffer.byteCount - done
      // A part of a row, or whole rows up to the end of the matrix.
      let (rows, columns): (Range<Int>, Range<Int>) =
        column > 0 || left < rowBytes
        ? (inside..<inside + 1, column..<min(rowBytes, column + left))
        : (inside..<min(rowCount, inside + left / rowBytes), 0..<rowBytes)
      let count = rows.count * columns.count
      var box = buffer._mutatingExtracting(done..<done + count)
      for index in piecesOfMatrix[matrix] {
        try read(pieces[index], matrix, rows, columns, into: &box)
      }
      done += count
    }
  }

  /// Reads the part of a box of one matrix that a piece covers.
  private func read(
    _ piece: Piece, _ matrix: Int, _ rows: Range<Int>, _ columns: Range<Int>,
    into box: inout MutableRawSpan
  ) throws(CheckpointError) {
    let wantedRows = rows.clamped(to: piece.rows)
    let wantedColumns = columns.clamped(to: piece.columns)
    guard !wantedRows.isEmpty, !wantedColumns.isEmpty else { return }
    let width = piece.columns.count
    let first =
      piece.offset
      + ((matrix - piece.matrices.lowerBound) * piece.rows.count + wantedRows.lowerBound
        - piece.rows.lowerBound) * width
    if wantedColumns == columns, width == columns.count {
      let start = (wantedRows.lowerBound - rows.lowerBound) * width
      var target = box._mutatingExtracting(start..<start + wantedRows.count * width)
      return try piece.source.read(into: &target, at: first)
    }
    let band = max(1, Self.stretch / width)
    for start in stride(from: wantedRows.lowerBound, to: wantedRows.upperBound, by: band) {
      let some = start..<min(start + band, wantedRows.upperBound)
      let position = first + (start - wantedRows.lowerBound) * width
      let bytes = try piece.source.readBytes(position..<position + some.count * width)
      for row in some {
        let from = (row - start) * width + wantedColumns.lowerBound - piece.columns.lowerBound
        let to =
          (row - rows.lowerBound) * columns.count + wantedColumns.lowerBound - columns.lowerBound
        unsafe bytes.withUnsafeBytes { source in
          unsafe box.withUnsafeMutableBytes { target in
            unsafe UnsafeMutableRawBufferPointer(rebasing: target[to..<to + wantedColumns.count])
              .copyMemory(
                from: UnsafeRawBufferPointer(rebasing: source[from..<from + wantedColumns.count]))
          }
        }
      }
    }
  }
}

/// Several sources, concatenated.
public struct ConcatenatedSource: ByteSource {
  public let path: String
  public let byteCount: Int
  private let parts: [any ByteSource]
  /// Where each part begins.
  private let starts: [Int]

  /// Concatenates sources.
  public init(path: String, _ parts: [any ByteSource]) {
    self.path = path
    self.parts = parts
    var starts: [Int] = []
    var end = 0
    for part in parts {
      starts.append(end)
      end += part.byteCount
    }
    self.starts = starts
    byteCount = end
  }

  public func read(into buffer: inout MutableRawSpan, at offset: Int) throws(CheckpointError) {
    try check(buffer.byteCount, at: offset)
    var done = 0
    var index = self.index(of: offset)
    while done < buffer.byteCount {
      let inside = offset + done - starts[index]
      let count = min(buffer.byteCount - done, parts[index].byteCount - inside)
      if count > 0 {
        var target = buffer._mutatingExtracting(done..<done + count)
        try parts[index].read(into: &target, at: inside)
        done += count
      }
      index += 1
    }
  }

  /// The last part that begins at or before a byte.
  private func index(of offset: Int) -> Int {
    var (low, high) = (0, starts.count)
    while high - low > 1 {
      let middle = (low + high) / 2
      if starts[middle] <= offset { low = middle } else { high = middle }
    }
    return low
  }
}
