internal import ByteStreams
internal import Checkpoint
internal import GGUF
internal import Quantization
public import TensorFormats

/// One matrix of a weight, ready to be read in any band of rows as F32.
///
/// Scales of tiles and of the whole matrix are read on creation, a few kilobytes; everything else on demand. A vector
/// counts as a matrix of one row. Use it from any number of threads, each with its own scratch.
public struct MatrixReader: Sendable {
  /// The weight's published name.
  public let name: String
  /// Rows of the matrix.
  public let rows: Int
  /// Elements of a row.
  public let columns: Int
  private let blocks: [Block]

  /// The buffers that one thread needs to read rows. Grows to the largest band and is reused.
  public struct Scratch: Sendable {
    var stored = StoredRows()
    var values: [Float] = []

    /// Makes an empty one.
    public init() {}
  }

  /// A box of the matrix stored in one place.
  private struct Block: Sendable {
    /// Rows and columns of the matrix that it covers.
    let rows: Range<Int>
    let columns: Range<Int>
    let stored: StoredMatrix
  }

  /// Prepares a matrix of a weight.
  ///
  /// - Parameters:
  ///   - weights: What the weight is part of.
  ///   - weight: The weight.
  ///   - matrix: Its number in the stack; 0 for a weight that is not a stack.
  /// - Throws: `.malformed` if elements are missing, `.unsupported` for element types that hold no real numbers, and
  ///   what reading scales throws.
  public init(_ weights: ModelWeights, _ weight: ModelWeights.Weight, matrix: Int = 0) throws(CheckpointError)
  {
    let blocks = try Self.blocks(weights, weight, matrix: matrix)
    let missing = weight.rows * weight.columns - Self.count(blocks)
    guard missing == 0 else {
      throw CheckpointError(
        .malformed, "\(missing) of its \(weight.rows * weight.columns) elements are in none of the parts",
        path: weights.checkpoint.path, tensor: weight.name)
    }
    self.init(name: weight.name, rows: weight.rows, columns: weight.columns, blocks: blocks)
  }

  /// Prepares the available part of a matrix: all of it, or the box that a part of a partition set has, with
  /// rows and columns counted from the box's origin.
  ///
  /// - Returns: `nil` if nothing of the matrix is held.
  /// - Throws: As ``init(_:_:matrix:)``, except for missing elements.
  public init?(
    held weight: ModelWeights.Weight, matrix: Int, of weights: ModelWeights
  ) throws(CheckpointError) {
    let blocks = try Self.blocks(weights, weight, matrix: matrix)
    guard let top = blocks.map(\.rows.lowerBound).min(), let left = blocks.map(\.columns.lowerBound).min(),
      let bottom = blocks.map(\.rows.upperBound).max(), let right = blocks.map(\.columns.upperBound).max()
    else { return nil }
    guard Self.count(blocks) == (bottom - top) * (right - left) else {
      throw CheckpointError(
        .malformed, "the parts do not hold a rectangle of it", path: weights.checkpoint.path,
        tensor: weight.name)
    }
    self.init(
      name: weight.name, rows: bottom - top, columns: right - left,
      blocks: blocks.map {
        Block(
          rows: $0.rows.lowerBound - top..<$0.rows.upperBound - top,
          columns: $0.columns.lowerBound - left..<$0.columns.upperBound - left, stored: $0.stored)
      })
  }

  /// Prepares the weight of a convolution, `[out, in, height, width]`, as the matrix `[out, in · height · width]`.
  ///
  /// - Throws: `.unsupported` if the weight has scales or is cut into parts, which no convolution's is, and as
  ///   ``init(_:_:matrix:)``.
  public init(
    convolution weight: ModelWeights.Weight, of weights: ModelWeights
  ) throws(CheckpointError) {
    guard let piece = weight.pieces.first, weight.pieces.count == 1, weight.isComplete,
      piece.stored.scheme == nil, let rows = weight.shape.dimensions.first, weight.shape.rank > 1
    else {
      throw CheckpointError(
        .unsupported, "a convolution's weight with scales or cut into parts is not supported",
        path: weights.checkpoint.path, tensor: weight.name)
    }
    let matrix = try StoredMatrix(
      piece.stored, in: weights.checkpoint, matrix: 0, firstRow: 0, rowAxes: weight.shape.rank - 1)
    let columns = weight.shape.dimensions.dropFirst().reduce(1, *)
    self.init(
      name: weight.name, rows: rows, columns: columns,
      blocks: [Block(rows: 0..<rows, columns: 0..<columns, stored: matrix)])
  }

  private init(name: String, rows: Int, columns: Int, blocks: [Block]) {
    self.name = name
    self.rows = rows
    self.columns = columns
    self.blocks = blocks
  }

  private static func blocks(
    _ weights: ModelWeights, _ weight: ModelWeights.Weight, matrix: Int
  ) throws(CheckpointError) -> [Block] {
    precondition((0..<max(1, weight.matrixCount)).contains(matrix), "no such matrix")
    let outer = Array(weight.shape.dimensions.dropLast(2))
    var blocks: [Block] = []
    for piece in weight.pieces {
      guard let inside = position(of: matrix, outer: outer, in: piece.box) else { continue }
      let rank = piece.box.extent.count
      let height = rank < 2 ? 1 : piece.box.extent[rank - 2]
      let width = piece.box.extent.last ?? 1
      let top = rank < 2 ? 0 : piece.box.origin[rank - 2]
      let left = piece.box.origin.last ?? 0
      blocks.append(
        Block(
          rows: top..<(top + height), columns: left..<(left + width),
          stored: try StoredMatrix(
            piece.stored, in: weights.checkpoint, matrix: inside, firstRow: piece.firstRow)))
    }
    return blocks
  }

  private static func count(_ blocks: [Block]) -> Int {
    blocks.reduce(0) { $0 + $1.rows.count * $1.columns.count }
  }

  /// Prepares a matrix of one piece of a weight, with rows and columns counted from the piece's origin.
  ///
  /// - Parameters:
  ///   - weights: What the weight is part of.
  ///   - weight: The weight.
  ///   - piece: One of its pieces.
  ///   - matrix: Its number in the piece; 0 for a piece that is not a stack.
  /// - Throws: As ``init(_:_:matrix:)``.
  public init(
    _ weights: ModelWeights, _ weight: ModelWeights.Weight, piece: ModelWeights.Piece, matrix: Int = 0
  ) throws(CheckpointError) {
    let extent = piece.box.extent
    precondition((0..<max(1, extent.dropLast(2).reduce(1, *))).contains(matrix), "no such matrix")
    name = weight.name
    rows = extent.count < 2 ? 1 : extent[extent.count - 2]
    columns = extent.last ?? 1
    blocks = [
      Block(
        rows: 0..<rows, columns: 0..<columns,
        stored: try StoredMatrix(
          piece.stored, in: weights.checkpoint, matrix: matrix, firstRow: piece.firstRow))
    ]
  }

  /// The index of a stack's matrix within a box; `nil` if it is not in the box.
  private static func position(of matrix: Int, outer: [Int], in box: TensorBox) -> Int? {
    var rest = matrix
    var coordinates = [Int](repeating: 0, count: outer.count)
    for axis in outer.indices.reversed() {
      let (quotient, coordinate) = rest.quotientAndRemainder(dividingBy: max(1, outer[axis]))
      coordinates[axis] = coordinate
      rest = quotient
    }
    var position = 0
    for (axis, coordinate) in coordinates.enumerated() {
      let inside = coordinate - box.origin[axis]
      guard (0..<box.extent[axis]).contains(inside) else { return nil }
      position = position * box.extent[axis] + inside
    }
    return position
  }

  /// The bytes that reading a row takes, scales left out.
  public var bytesPerRow: Int { blocks.reduce(0) { $0 + $1.stored.rowBytes } / max(1, stacked) }

  /// The number of vertically stacked blocks.
  private var stacked: Int { Set(blocks.map(\.rows.lowerBound)).count }

  /// Reads and decodes rows.
  ///
  /// - Parameters:
  ///   - wanted: The rows.
  ///   - values: Receives `wanted.count` × ``columns`` values, row-major.
  ///   - scratch: Space that reads of this matrix reuse.
  /// - Throws: `.truncated` and `.inputOutput` if reading fails, `.malformed` for blocks that no encoder writes.
  /// - Complexity: O(elements).
  public func read(
    _ wanted: Range<Int>, into values: inout MutableSpan<Float>, _ scratch: inout Scratch
  ) throws(CheckpointError) {
    precondition(wanted.upperBound <= rows && values.count == wanted.count * columns)
    for block in blocks {
      let band = block.rows.clamped(to: wanted)
      guard !band.isEmpty else { continue }
      let local = band.lowerBound - block.rows.lowerBound..<band.upperBound - block.rows.lowerBound
      let first = (band.lowerBound - wanted.lowerBound) * columns
      if block.columns.count == columns {
        var target = values._mutatingExtracting(first..<first + band.count * columns)
        try block.stored.read(local, into: &target, &scratch.stored)
        continue
      }
      // Taken out while in use, so that the scratch is borrowed only once.
      let width = block.columns.count
      var narrow = scratch.values
      scratch.values = []
      defer { scratch.values = narrow }
      if narrow.count < band.count * width { narrow = [Float](repeating: 0, count: band.count * width) }
      do {
        var all = narrow.mutableSpan
        var target = all._mutatingExtracting(..<(band.count * width))
        try block.stored.read(local, into: &target, &scratch.stored)
      }
      for row in 0..<band.count {
        let start = first + row * columns + block.columns.lowerBound
        for column in 0..<width { values[start + column] = narrow[row * width + column] }
      }
    }
  }

  /// Reads and decodes rows; as ``read(_:into:_:)``, which allocates nothing.
  ///
  /// - Returns: `wanted.count` × ``columns`` values, row-major.
  /// - Throws: As there.
  public func read(_ wanted: Range<Int>) throws(CheckpointError) -> [Float] {
    var values = [Float](repeating: 0, count: wanted.count * columns)
    var scratch = Scratch()
    var span = values.mutableSpan
    try read(wanted, into: &span, &scratch)
    return values
  }

  /// Hints that rows will be read soon.
  public func prefetch(_ wanted: Range<Int>) {
    for block in blocks {
      let band = block.rows.clamped(to: wanted)
      guard !band.isEmpty else { continue }
      block.stored.prefetch(
        band.lowerBound - block.rows.lowerBound..<band.upperBound - block.rows.lowerBound)
    }
  }
}

extension ModelWeights {
  /// All elements of the weight of that published name, row-major.
  ///
  /// - Throws: `.notFound` if there is none, and as ``values(of:)-(ModelWeights.Weight)``.
  public func values(of name: String) throws(CheckpointError) -> [Float] {
    guard let weight = self[name] else {
      throw CheckpointError(
        .notFound, "the checkpoint has no such weight", path: checkpoint.path, tensor: name,
        remedy: "names are the published ones, whatever the format")
    }
    return try values(of: weight)
  }

  /// All elements of a weight, row-major.
  ///
  /// - Throws: As ``MatrixReader``.
  public func values(of weight: Weight) throws(CheckpointError) -> [Float] {
    var values = [Float](repeating: 0, count: weight.shape.elementCount)
    var scratch = MatrixReader.Scratch()
    // Small matrices of a stack, such as the kernels of a convolution, are rows of one matrix as well.
    if let piece = weight.pieces.first, weight.pieces.count == 1, piece.stored.scheme == nil,
      piece.stored.matrixScales == nil
    {
      let matrix = try StoredMatrix(
        piece.stored, in: checkpoint, matrix: 0, firstRow: 0, rowAxes: weight.shape.rank)
      var span = values.mutableSpan
      try matrix.read(0..<1, into: &span, &scratch.stored)
      return values
    }
    let count = weight.rows * weight.columns
    for matrix in 0..<weight.matrixCount {
      let reader = try MatrixReader(self, weight, matrix: matrix)
      var all = values.mutableSpan
      var span = all._mutatingExtracting(matrix * count..<(matrix + 1) * count)
      try reader.read(0..<weight.rows, into: &span, &scratch)
    }
    return values
  }
}
