package import Quantization

/// The errors of some rows of a tensor, to be merged in order.
package struct TensorErrors: PairFigures {
  /// Where an element is, in the whole tensor.
  package struct Place: Hashable, Sendable {
    package var matrix: Int
    package var row: Int
    package var column: Int

    package init(matrix: Int, row: Int, column: Int) {
      self.matrix = matrix
      self.row = row
      self.column = column
    }
  }

  /// The row or block whose error is largest relative to its bound.
  package struct Worst: Sendable {
    /// The error over its bound; infinite if no error is allowed.
    package var share: Double
    /// Its first element.
    package var place: Place
    package var count: Int
    /// The norm of the error over that of the source.
    package var relative: Double
    /// The limit for ``relative``.
    package var limit: Double

    /// Keeps the worse of two, the first on ties.
    package static func keep(_ mine: inout Worst?, _ other: Worst?) {
      guard let other else { return }
      if let old = mine, (old.share, old.relative) >= (other.share, other.relative) { return }
      mine = other
    }
  }

  package var sums = ErrorSums()
  /// Σ of the squared bounds of all blocks of rows that differ at all.
  package var boundSquares = 0.0
  /// The same for typical errors.
  package var usualSquares = 0.0
  /// Where the largest absolute error is; `nil` if there is none.
  package var largestErrorPlace: Place?
  package var worstRow: Worst?
  package var worstBlock: Worst?
  /// Rows with blocks, and blocks, that exceed their bound.
  package var badRows = 0
  package var badBlocks = 0
  /// Elements that are NaN or infinite on one side, or differently on both.
  package var nonFinite = 0
  package var firstNonFinite: Place?
  /// Elements that are NaN or infinite on both sides alike.
  package var sameNonFinite = 0
  /// Differing bytes, for tensors compared by bytes.
  package var differingBytes = 0
  /// The sums and bounds of single matrices of a stack.
  package var matrices: [Int: Matrix] = [:]

  package struct Matrix: Sendable {
    package var squaredErrors = 0.0
    package var squares = 0.0
    package var boundSquares = 0.0

    mutating func add(_ other: Matrix) {
      squaredErrors += other.squaredErrors
      squares += other.squares
      boundSquares += other.boundSquares
    }

    package var relative: Double { squaredErrors == 0 ? 0 : (squaredErrors / squares).squareRoot() }
    package var share: Double { squaredErrors == 0 ? 0 : (squaredErrors / boundSquares).squareRoot() }
  }

  /// Nothing compared yet.
  package init() {}

  /// Adds the errors of later rows.
  package mutating func merge(_ later: TensorErrors) {
    if later.sums.maximumAbsoluteError > sums.maximumAbsoluteError {
      largestErrorPlace = later.largestErrorPlace
    }
    sums.merge(later.sums)
    boundSquares += later.boundSquares
    usualSquares += later.usualSquares
    Worst.keep(&worstRow, later.worstRow)
    Worst.keep(&worstBlock, later.worstBlock)
    badRows += later.badRows
    badBlocks += later.badBlocks
    nonFinite += later.nonFinite
    firstNonFinite = firstNonFinite ?? later.firstNonFinite
    sameNonFinite += later.sameNonFinite
    differingBytes += later.differingBytes
    for (index, matrix) in later.matrices { matrices[index, default: Matrix()].add(matrix) }
  }

  /// The matrix with the largest share of its bound.
  package var worstMatrix: (index: Int, matrix: Matrix)? {
    matrices.min { a, b in
      (a.value.share, a.value.relative, b.key) > (b.value.share, b.value.relative, a.key)
    }.map { ($0.key, $0.value) }
  }
}
