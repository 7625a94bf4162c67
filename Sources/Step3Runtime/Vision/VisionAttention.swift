internal import Step3Model
internal import ParallelWork

/// Unmasked attention of every row of a picture over all rows of the same picture.
///
/// Memory: for each thread the scores of ``queryBlock`` queries with all rows of the largest picture.
struct VisionAttention: Sendable {
  let headCount: Int
  let headDimension: Int
  let threads: Int

  /// Queries whose scores are computed at a time.
  static let queryBlock = 256

  init(_ vision: Step3Configuration.Vision, threads: Int) {
    headCount = vision.headCount
    headDimension = vision.hiddenSize / vision.headCount
    self.threads = threads
  }

  /// Some queries of one head of one picture.
  private struct Piece {
    let head: Int
    let queries: Range<Int>
    let keys: Range<Int>
  }

  /// Computes softmax(q kᵀ / sqrt(dimension)) v for each picture and head.
  ///
  /// - Parameters:
  ///   - projected: `[rows, 3 · heads · dimension]`: queries, keys and values side by side.
  ///   - pictures: The rows of each picture.
  /// - Returns: `[rows, heads · dimension]`.
  func mix(_ projected: Activations, _ pictures: [Range<Int>]) throws -> Activations {
    try BLAS.prepare(threads: threads)
    let width = headCount * headDimension
    precondition(projected.columns == 3 * width)
    let result = Activations(rows: projected.rows, columns: width)
    var pieces: [Piece] = []
    for rows in pictures {
      for head in 0..<headCount {
        for first in stride(from: rows.lowerBound, to: rows.upperBound, by: Self.queryBlock) {
          let queries = first..<min(first + Self.queryBlock, rows.upperBound)
          pieces.append(Piece(head: head, queries: queries, keys: rows))
        }
      }
    }
    let longest = pictures.map(\.count).max() ?? 0
    let all = pieces
    try ParallelWork.forEach(
      below: all.count, threads: threads,
      scratch: { [Float](repeating: 0, count: min(Self.queryBlock, longest) * longest) }
    ) { number, scores in
      try Task.checkCancellation()
      let piece = all[number]
      let (count, seen, columns) = (piece.queries.count, piece.keys.count, projected.columns)
      let start = piece.head * headDimension
      unsafe scores.withUnsafeMutableBufferPointer { buffer in
        guard let scores = buffer.baseAddress else { return }
        let query = unsafe projected.base + piece.queries.lowerBound * columns + start
        let key = unsafe projected.base + piece.keys.lowerBound * columns + width + start
        unsafe BLAS.multiplyTransposed(
          query, columns, key, columns, scores, seen, m: count, n: seen, k: headDimension,
          factor: 1 / Float(headDimension).squareRoot())
        for row in 0..<count {
          var span = unsafe MutableSpan(_unsafeStart: scores + row * seen, count: seen)
          Elementwise.softmax(&span, count: seen)
        }
        unsafe BLAS.multiply(
          scores, seen, key + width, columns, result.base + piece.queries.lowerBound * width + start, width,
          m: count, n: headDimension, k: seen)
      }
    }
    return result
  }
}
