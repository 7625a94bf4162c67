internal import Checkpoint
internal import Comparison
internal import StoredWeights
internal import Quantization
internal import TensorFormats

extension DifferenceReport.Pair {
  /// The comparison of a pair's headers.
  init(headersOf pair: WeightPair) {
    self.init(
      pair, outcome: pair.a.hasHeaders(like: pair.b) ? .sameHeader : .otherType, errors: nil, note: nil)
  }

  /// The result of comparing a pair's values.
  init(_ comparison: ElementComparison, _ differences: ElementDifferences) {
    let pair = comparison.pair
    let sameEncoding = comparison.sameEncoding
    var note: String?
    let outcome: DifferenceReport.Outcome
    switch comparison.method {
    case .none:
      outcome = .notCompared
      let (mine, its) = (pair.a.stored.codes.elementType, pair.b.stored.codes.elementType)
      note = "values of \(mine) and \(its) cannot be compared"
    case .bytes where differences.bytesDiffer:
      outcome = .different
      note = "bytes differ; the values of \(pair.a.stored.codes.elementType) cannot be compared"
    default:
      outcome =
        differences.count > 0
        ? .different : differences.bytesDiffer || !sameEncoding ? .sameValues : .identical
      if outcome != .identical, !sameEncoding { note = Self.decoding(pair) }
    }
    self.init(pair, outcome: outcome, errors: .init(differences, in: pair.box), note: note)
  }

  private init(
    _ pair: WeightPair, outcome: DifferenceReport.Outcome, errors: DifferenceReport.Errors?, note: String?
  ) {
    self.init(
      a: .init(pair.a.piece, in: pair.a.weights), b: .init(pair.b.piece, in: pair.b.weights),
      weight: pair.a.piece.isFused || pair.b.piece.isFused ? pair.name : nil,
      slice: pair.box.isWhole ? nil : .init(origin: pair.box.origin, extent: pair.box.extent),
      outcome: outcome, errors: errors, note: note)
  }

  /// Two weights of one name whose shapes differ; `nil` for others.
  init?(shapesOf match: WeightPairing.Match, _ weightsA: ModelWeights, _ weightsB: ModelWeights) {
    guard !match.hasSameShape, let a = match.a?.pieces.first, let b = match.b?.pieces.first else {
      return nil
    }
    self.init(
      a: .init(a, in: weightsA), b: .init(b, in: weightsB),
      weight: a.isFused || b.isFused ? match.name : nil, slice: nil, outcome: .shape, errors: nil, note: nil)
  }

  /// How the values of schemes were compared.
  private static func decoding(_ pair: WeightPair) -> String? {
    let schemes = [pair.a, pair.b].compactMap(\.stored.scheme?.scheme)
    guard let first = schemes.first else {
      return pair.a.isScaled || pair.b.isScaled
        ? "compared after multiplication by matrix scales" : nil
    }
    if schemes.allSatisfy({ if case .fp8Block = $0 { true } else { false } }) {
      return "compared after multiplication by block scales"
    }
    let all = schemes.dropFirst().reduce("\(first)") { $1 == first ? $0 : "\($0) and \($1)" }
    return "compared after decoding \(all)"
  }
}

extension DifferenceReport.Side {
  init(_ piece: ModelWeights.Piece, in weights: ModelWeights) {
    let codes = piece.stored.codes
    self.init(
      name: codes.name, dtype: codes.elementType, shape: codes.shape,
      file: weights.checkpoint.files[codes.file].name)
  }
}

extension DifferenceReport.Errors {
  /// - Returns: `nil` if nothing differs.
  init?(_ differences: ElementDifferences, in box: TensorBox) {
    guard differences.count > 0 else { return nil }
    self.init(
      count: differences.count, relative: differences.relative, maxAbs: differences.maxAbs,
      rmse: differences.rmse,
      firstIndex: differences.firstIndex.map { box.position(of: $0, in: TensorBox(wholeOf: box.shape)) },
      nonFinite: differences.nonFinite)
  }
}

extension DifferenceReport.Incomplete {
  /// - Returns: `nil` if both have the same elements of the weight, or it is not in both.
  init?(_ match: WeightPairing.Match) {
    guard match.hasSameShape, let a = match.a, let b = match.b else { return nil }
    let (left, right) = (Set(a.everyPiece.map(\.box)), Set(b.everyPiece.map(\.box)))
    let common = WeightPairing.elementCount(Set(match.pairs.map(\.box)))
    let (inA, inB) = (WeightPairing.elementCount(left), WeightPairing.elementCount(right))
    guard inA != common || inB != common else { return nil }
    self.init(name: a.nameOnDisk, elements: a.shape.elementCount, inA: inA, inB: inB, inBoth: common)
  }
}

extension ModelWeights.Weight {
  /// The stored name of its values or codes; the published one if they are stored with those of other weights.
  var nameOnDisk: String {
    guard let first = everyPiece.first, !first.isFused else { return name }
    return first.stored.codes.name
  }
}
