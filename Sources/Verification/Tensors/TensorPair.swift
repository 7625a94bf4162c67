internal import Checkpoint
internal import ModelWeights
internal import Quantization
internal import TensorFormats

/// A piece of a candidate's tensor, and where its counterpart in the source is.
struct TensorPair: Sendable {
  /// How the two are compared.
  enum Method: Sendable {
    case values(ErrorBound)
    /// Types that hold no real numbers.
    case bytes
  }

  let name: String
  /// The part of a partition set that the piece is in.
  let part: String?
  let candidate: ModelWeights
  let candidateWeight: ModelWeights.Weight
  let piece: ModelWeights.Piece
  let source: ModelWeights
  let sourceWeight: ModelWeights.Weight
  /// The piece of the source that has all of the candidate's; `nil` if the source has the whole tensor.
  let sourcePiece: ModelWeights.Piece?
  let method: Method

  /// What is compared, in the whole tensor.
  var box: TensorBox { piece.box }
  var candidateStorage: TensorStorage { TensorStorage(piece.stored) }
  /// How the source stores it; of several pieces, the first.
  var sourceStorage: TensorStorage? {
    (sourcePiece ?? sourceWeight.pieces.first).map { TensorStorage($0.stored) }
  }

  /// Matrices, rows and columns of the box.
  var matrixCount: Int { box.extent.dropLast(2).reduce(1, *) }
  var rows: Int { box.extent.count < 2 ? 1 : box.extent[box.extent.count - 2] }
  var columns: Int { box.extent.last ?? 1 }

  /// The bytes that comparing it reads, about.
  var byteCount: Int {
    func share(_ stored: StoredWeight, _ elements: Int) -> Int {
      Int(
        Double(stored.byteCount) * min(1, Double(elements) / Double(max(1, stored.shape.elementCount))))
    }
    let mine = share(piece.stored, box.elementCount)
    if let sourcePiece { return mine + share(sourcePiece.stored, box.elementCount) }
    let whole = Double(sourceWeight.pieces.reduce(0) { $0 + share($1.stored, $1.box.elementCount) })
    return mine
      + Int(whole * Double(box.elementCount) / Double(max(1, sourceWeight.shape.elementCount)))
  }
}

// MARK: - Units

/// Some rows of one pair, in the piece; for pairs compared by their bytes, some bytes.
struct PairUnit: Sendable {
  let pair: Int
  let matrix: Int
  let rows: Range<Int>
}

/// Cuts pairs into units of about equal size that do not depend on how many threads there are.
struct PairUnits: IteratorProtocol, Sendable {
  /// Elements, or bytes, of a unit: two buffers of F32 of this length are small enough for a core's cache.
  private static let target = 1 << 18

  private let pairs: [TensorPair]
  private var pair = 0
  private var matrix = 0
  private var row = 0

  init(_ pairs: [TensorPair]) { self.pairs = pairs }

  mutating func next() -> PairUnit? {
    while pair < pairs.count {
      let (matrices, rows) = pairs[pair].extent
      if matrix < matrices, row < rows {
        let end = min(rows, row + Self.height(pairs[pair]))
        defer { row = end }
        return PairUnit(pair: pair, matrix: matrix, rows: row..<end)
      }
      row = 0
      matrix += 1
      if matrix >= matrices { (pair, matrix) = (pair + 1, 0) }
    }
    return nil
  }

  private static func height(_ pair: TensorPair) -> Int {
    guard case .values(let bound) = pair.method else { return target }
    let rows = max(1, target / max(1, pair.columns))
    guard case .tile(let height, _) = bound.reach else { return rows }
    return (rows + height - 1) / height * height
  }
}

extension TensorPair {
  /// Matrices and rows; one matrix of rows of one byte for pairs compared by their bytes.
  fileprivate var extent: (matrices: Int, rows: Int) {
    if case .bytes = method { return (1, piece.stored.codes.byteRange.count) }
    return columns == 0 ? (0, 0) : (matrixCount, rows)
  }

  /// The share of the pair's bytes that a unit is. Over all units the shares are the whole.
  func byteCount(of unit: PairUnit) -> Int {
    let (matrices, rows) = extent
    let all = Double(matrices) * Double(rows)
    func upTo(_ row: Int) -> Int {
      Int(Double(byteCount) * ((Double(unit.matrix) * Double(rows) + Double(row)) / all))
    }
    return upTo(unit.rows.upperBound) - upTo(unit.rows.lowerBound)
  }
}
