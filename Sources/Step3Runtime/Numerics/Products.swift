public import StoredWeights
internal import Quantization
internal import Synchronization
internal import ParallelWork

/// Products of activations with matrices that are read and decoded on the fly: a tile of rows is read, decoded,
/// multiplied by all tokens, and dropped.
///
/// Memory: one tile buffer per thread, whatever the size of the matrix, reused for the next product. Results do not
/// depend on the number of threads.
public final class Products: Sendable {
  /// The number of tiles processed concurrently.
  public let threads: Int
  private let read = Atomic(0)
  private let scratches = ScratchPool()

  /// Prepares products on this many threads.
  public init(threads: Int) { self.threads = max(1, threads) }

  /// The bytes of weights read so far.
  public var bytesRead: Int { read.load(ordering: .relaxed) }

  /// Up to this many tokens our own kernel is faster than a BLAS, which packs its operands.
  private static let fewTokens = 24
  /// Elements of a tile for few tokens: decoded, it stays in the second-level cache.
  private static let smallTile = 1 << 17
  /// Rows of a tile for many tokens: enough for the BLAS to make up for packing.
  private static let manyRows = 128
  /// The most elements of a tile, unless a single row has more.
  static let largestTile = 1 << 22
  /// How many stored bytes to prefetch.
  private static let prefetchedBytes = 1 << 22

  /// `result[t, first + r]` = the sum of `input[t, c]` × `matrix[r, c]` over all columns.
  ///
  /// - Parameters:
  ///   - input: `[tokens, matrix.columns]`.
  ///   - matrix: The weight, decoded row by row as it is read.
  ///   - result: `[tokens, at least first + matrix.rows]`.
  ///   - first: Where in each row of the result the matrix's rows begin.
  /// - Throws: What reading throws, and `CancellationError`.
  public func multiply(
    _ input: Activations, _ matrix: MatrixReader, into result: Activations, from first: Int = 0
  ) throws {
    precondition(input.columns == matrix.columns && input.rows == result.rows)
    precondition(first >= 0 && first + matrix.rows <= result.columns)
    try Task.checkCancellation()
    try BLAS.prepare(threads: threads)
    let tokens = input.rows
    guard tokens > 0 else { return }
    let columns = matrix.columns
    let height = tileHeight(tokens: tokens, rows: matrix.rows, columns: columns)
    let tiles = (matrix.rows + height - 1) / height
    let window = max(1, Self.prefetchedBytes / max(1, height * matrix.bytesPerRow))
    try ParallelWork.forEach(below: tiles, threads: threads, scratch: { scratches.lend(height * columns) }) {
      tile, loan in
      let rows = tile * height..<min((tile + 1) * height, matrix.rows)
      if tile % window == 0 {
        let next = (tile == 0 ? 0 : tile + window) * height
        if next < matrix.rows { matrix.prefetch(next..<min((tile + 2 * window) * height, matrix.rows)) }
      }
      try loan.scratch.read(rows, of: matrix)
      read.wrappingAdd(rows.count * matrix.bytesPerRow, ordering: .relaxed)
      unsafe loan.scratch.values.withUnsafeBufferPointer { values in
        guard let weights = values.baseAddress else { return }
        let target = unsafe result.base + first + rows.lowerBound
        if tokens <= Self.fewTokens {
          unsafe RowProducts.multiply(
            input.base, count: tokens, weights, rows: rows.count, columns: columns, into: target,
            stride: result.columns)
        } else {
          unsafe BLAS.multiplyTransposed(
            input.base, columns, weights, columns, target, result.columns, m: tokens, n: rows.count,
            k: columns)
        }
      }
    }
  }

  /// `input · matrixᵀ` as new rows.
  public func multiply(_ input: Activations, _ matrix: MatrixReader) throws -> Activations {
    let result = Activations(rows: input.rows, columns: matrix.rows)
    try multiply(input, matrix, into: result)
    return result
  }

  /// Depends only on the matrix: a BLAS sums in a different order for another tile height.
  private func tileHeight(tokens: Int, rows: Int, columns: Int) -> Int {
    let wanted =
      tokens <= Self.fewTokens
      ? Self.smallTile / max(1, columns)
      : min(Self.manyRows, max(64, rows / 16), Self.largestTile / max(1, columns))
    // Multiples of 16 keep quantisation tiles and SIMD lanes whole.
    return min(max(1, rows), max(16, wanted / 16 * 16))
  }
}

/// Scratch buffers that threads reuse from product to product.
private final class ScratchPool: Sendable {
  private let free = Mutex<[TileScratch]>([])

  /// A scratch buffer on loan for as long as this is held.
  final class Loan {
    var scratch: TileScratch
    private let pool: ScratchPool

    init(_ scratch: TileScratch, of pool: ScratchPool) {
      self.scratch = scratch
      self.pool = pool
    }

    deinit { pool.free.withLock { $0.append(scratch) } }
  }

  /// Lends a scratch buffer for tiles of up to `count` elements.
  func lend(_ count: Int) -> Loan {
    var scratch = free.withLock { $0.popLast() } ?? TileScratch()
    if scratch.values.count < count { scratch.values = [Float](repeating: 0, count: count) }
    return Loan(scratch, of: self)
  }
}

/// What one thread reuses from tile to tile.
private struct TileScratch {
  var values: [Float] = []
  var reader = MatrixReader.Scratch()

  mutating func read(_ rows: Range<Int>, of matrix: MatrixReader) throws {
    // Taken out while in use, so that the scratch is borrowed only once.
    var own = MatrixReader.Scratch()
    swap(&own, &reader)
    defer { swap(&own, &reader) }
    var all = values.mutableSpan
    var span = all._mutatingExtracting(..<(rows.count * matrix.columns))
    try matrix.read(rows, into: &span, &own)
  }
}
