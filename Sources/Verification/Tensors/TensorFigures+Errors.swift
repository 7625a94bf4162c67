internal import Comparison
internal import StoredWeights
internal import Quantization
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// The pairs of one tensor in one part, and their results.
struct TensorOutcome {
  let pairs: [WeightPair]
  let errors: TensorErrors
  let bound: ErrorBound?

  init(_ comparisons: [ErrorComparison], _ errors: TensorErrors) {
    pairs = comparisons.map(\.pair)
    self.errors = errors
    bound =
      comparisons.lazy.compactMap { if case .values(let bound) = $0.method { bound } else { nil } }.first
  }

  var name: String { pairs[0].name }
  var part: String? { pairs[0].part }
  var from: String { StoredPrecision(pairs[0].b.stored).name }
  var to: String { StoredPrecision(pairs[0].a.stored).name }
  var elements: Int { pairs.reduce(0) { $0 + $1.box.elementCount } }

  /// From this many elements, the mean error is reliable enough to be judged.
  private static let enoughForMeans = 1 << 16

  /// The limit for the relative RMSE.
  var limit: Double {
    guard bound != nil, errors.sums.squaredErrors > 0, errors.sums.originalSquares > 0 else { return 0 }
    let squares = elements >= Self.enoughForMeans ? errors.usualSquares : errors.boundSquares
    return (squares / errors.sums.originalSquares).squareRoot()
  }

  /// The severity, for sorting: above 1 something is out of line.
  var severity: Double {
    if errors.nonFinite > 0 || errors.differingBytes > 0 { return .infinity }
    let whole = errors.sums.squaredErrors == 0 ? 0 : errors.sums.relativeRMSE / limit
    return max(whole, errors.worstBlock?.share ?? 0)
  }

  // MARK: Findings

  /// What is wrong with it; `nil` if nothing is.
  var finding: TensorReport.Finding? {
    func finding(_ kind: TensorReport.Finding.Kind, _ message: String) -> TensorReport.Finding {
      TensorReport.Finding(kind: kind, tensor: name, part: part, message: message)
    }
    if errors.differingBytes > 0 {
      return finding(.notExact, "\(errors.differingBytes) bytes differ, but \(to) is compared byte by byte")
    }
    if errors.nonFinite > 0 {
      let place = errors.firstNonFinite.map { ", the first at \(words($0))" } ?? ""
      return finding(
        .nonFinite, "\(errors.nonFinite) elements are NaN or infinite on one side only\(place)")
    }
    if errors.badBlocks > 0, let worst = errors.worstBlock {
      let relative = percent(worst.relative)
      guard let bound, !bound.isExact || worst.limit > 0 else {
        return finding(
          .notExact,
          "\(errors.badRows) rows differ, though \(to) holds every value of \(from) exactly: "
            + "the worst, at \(words(worst.place)), by \(relative) of its norm")
      }
      let end = worst.place.column + worst.count
      return finding(
        .block,
        "\(errors.badBlocks) blocks in \(errors.badRows) rows are off by more than \(to) explains: "
          + "the worst, at \(words(worst.place)) to \(end - 1), by \(relative) of its norm, but at most "
          + "\(percent(worst.limit)) is possible")
    }
    if errors.sums.squaredErrors > 0, errors.sums.relativeRMSE > limit {
      return finding(
        .tensor,
        "the relative RMSE is \(percent(errors.sums.relativeRMSE)), but \(to) explains at most \(percent(limit)) for these "
          + "weights")
    }
    return nil
  }

  private func words(_ place: TensorErrors.Place) -> String {
    let matrix = isStack ? "matrix \(place.matrix), " : ""
    return "\(matrix)row \(place.row), column \(place.column)"
  }

  /// `14.2 %`
  private func percent(_ share: Double) -> String {
    guard share.isFinite else { return "more than 100 %" }
    return NumberText.percent(share)
  }

  private var isStack: Bool { pairs[0].box.shape.rank > 2 }

  // MARK: Figures

  var figures: TensorFigures {
    let sums = errors.sums
    let isWhole = pairs.count == 1 && pairs[0].box.isWhole
    let relative = sums.relativeRMSE
    return TensorFigures(
      name: name, part: part, shape: pairs[0].box.shape,
      slices: isWhole
        ? nil : pairs.map { TensorFigures.Slice(origin: $0.box.origin, extent: $0.box.extent) },
      from: from, to: to, elements: elements, ok: finding == nil, rmse: sums.rmse, relativeRMSE: relative,
      limit: limit, expected: bound?.expected, maxAbs: Double(sums.maximumAbsoluteError),
      maxAbsAt: errors.largestErrorPlace.map {
        TensorFigures.Place(matrix: isStack ? $0.matrix : nil, row: $0.row, column: $0.column)
      },
      cosine: sums.cosineSimilarity, snr: relative > 0 ? -20 * log10(relative) : nil,
      worstRow: errors.worstRow.map(rowRange), worstBlock: errors.worstBlock.map(rowRange),
      worstMatrix: errors.worstMatrix.flatMap {
        $0.matrix.squaredErrors == 0
          ? nil : TensorFigures.MatrixError(matrix: $0.index, relativeRMSE: $0.matrix.relative)
      }, matrices: matrices,
      rowsOutOfLine: errors.badRows, blocksOutOfLine: errors.badBlocks, nonFinite: errors.nonFinite,
      sameNonFinite: errors.sameNonFinite)
  }

  private var matrices: [TensorFigures.MatrixError]? {
    guard isStack, errors.sums.squaredErrors > 0 else { return nil }
    return errors.matrices.sorted { $0.key < $1.key }.map {
      TensorFigures.MatrixError(matrix: $0.key, relativeRMSE: $0.value.relative)
    }
  }

  private func rowRange(_ worst: TensorErrors.Worst) -> TensorFigures.RowRange {
    TensorFigures.RowRange(
      matrix: isStack ? worst.place.matrix : nil, row: worst.place.row, column: worst.place.column,
      count: worst.count, relativeRMSE: worst.relative, limit: worst.limit)
  }
}
