internal import Checkpoint
internal import StoredWeights
package import ParallelWork
package import TensorFormats

/// Compares a pair of pieces element by element: whether bytes and values are the same, and how values differ.
package struct ElementComparison: PairComparing {
  /// What is compared.
  package enum Method: Equatable, Sendable {
    /// Values as F32, which holds those of every smaller type exactly.
    case real
    /// Values as F64, if one side is.
    case double
    case integer
    /// Bytes alone.
    case bytes
    /// Nothing: the values of the two types have nothing in common.
    case none
  }

  package let pair: WeightPair
  package let method: Method
  /// Whether equal bytes are equal values.
  package let sameEncoding: Bool
  private let a: ElementReader
  private let b: ElementReader
  /// How many elements are contiguous in both sides.
  private let runLength: Int
  package let cut: UnitCut
  /// Whether values are compared even if bytes are the same.
  fileprivate var readsAll = false

  /// The elements of a unit, except when whole rows are read: a multiple of every block's elements.
  private static let unitLength = 1 << 16

  /// Prepares a comparison; reads nothing.
  package init(_ pair: WeightPair) {
    self.pair = pair
    a = ElementReader(pair.a)
    b = ElementReader(pair.b)
    sameEncoding = pair.a.isStored(like: pair.b)
    let types = [pair.a.stored.codes.elementType, pair.b.stored.codes.elementType]
    method =
      if a.isInteger, b.isInteger {
        .integer
      } else if a.isReal, b.isReal {
        types.contains(.f64) ? .double : .real
      } else {
        sameEncoding ? .bytes : .none
      }
    var run = pair.box.runLength(in: [pair.a.box, pair.b.box])
    var unit = Self.unitLength
    if pair.a.isScaled || pair.b.isScaled {
      // A run of several axes is a multiple of a matrix.
      run = min(run, pair.rows * pair.columns)
      unit = unit / max(1, pair.columns) * pair.columns
      unit = max(unit, pair.columns)
    }
    runLength = run
    cut = UnitCut(count: method == .none ? 0 : pair.box.elementCount, unit: unit)
  }

  package var name: String { pair.a.stored.codes.name }

  package func byteCount(of unit: Range<Int>) -> Int {
    a.byteCount(of: unit.count) + b.byteCount(of: unit.count)
  }

  /// One thread's reusable buffers.
  package struct Scratch {
    fileprivate var a = ElementReader.Scratch()
    fileprivate var b = ElementReader.Scratch()
  }

  package static func makeScratch() -> Scratch { Scratch() }

  package func compare(
    _ unit: Range<Int>, pair number: Int, _ scratch: inout Scratch
  ) throws(CheckpointError) -> ElementDifferences {
    var result = ElementDifferences()
    scratch.a.forget()
    scratch.b.forget()
    var start = unit.lowerBound
    while start < unit.upperBound {
      let end = min(unit.upperBound, (start / runLength + 1) * runLength)
      try a.read(pair.box.position(of: start, in: pair.a.box), end - start, into: &scratch.a)
      try b.read(pair.box.position(of: start, in: pair.b.box), end - start, into: &scratch.b)
      result.merge(try compare(start, end - start, &scratch.a, &scratch.b))
      start = end
    }
    return result
  }

  private func compare(
    _ start: Int, _ count: Int, _ left: inout ElementReader.Scratch, _ right: inout ElementReader.Scratch
  ) throws(CheckpointError) -> ElementDifferences {
    var result = ElementDifferences()
    if sameEncoding, !readsAll, left.hasSameBytes(as: right) {
      result.finite = count
      result.unread = count
      return result
    }
    switch method {
    case .real:
      try a.decode(&left)
      try b.decode(&right)
      result.compare(left.wanted, right.wanted, from: start)
    case .double:
      let doublesA = try a.doubles(&left)
      let doublesB = try b.doubles(&right)
      result.compare(doublesA.span, doublesB.span, from: start)
    case .integer:
      result.compare(a.integers(left), b.integers(right), from: start)
    case .bytes, .none: break
    }
    // Blocks and rows extending beyond the common elements may differ there.
    result.bytesDiffer = !sameEncoding || left.isWhole && right.isWhole || result.count > 0
    return result
  }
}

extension [ElementComparison] {
  /// Compares all pairs. If values differ in some units and bytes are the same in others, the pair is read a second
  /// time with all its values, which a relative error needs; pairs that do not differ are never decoded.
  ///
  /// - Throws: As ``run(threads:monitor:)``.
  package func differences(threads: Int, monitor: WorkMonitor) async throws -> [ElementDifferences] {
    var found = try await run(threads: threads, monitor: monitor)
    let unfinished = indices.filter { found[$0].sumOfSquares > 0 && found[$0].unread > 0 }
    let again = unfinished.map { index in
      var comparison = self[index]
      comparison.readsAll = true
      return comparison
    }
    for (index, whole) in zip(unfinished, try await again.run(threads: threads, monitor: WorkMonitor())) {
      found[index] = whole
    }
    return found
  }
}

extension WeightSide {
  /// Whether equal bytes are equal values.
  fileprivate func isStored(like other: WeightSide) -> Bool {
    offset == other.offset && hasHeaders(like: other)
  }

  /// Whether types and scheme are the same.
  package func hasHeaders(like other: WeightSide) -> Bool {
    stored.scheme == other.stored.scheme
      && stored.components.map(\.elementType) == other.stored.components.map(\.elementType)
  }
}
