internal import Synchronization
package import ParallelWork
package import TensorFormats

/// A way of comparing the elements of a pair, in units whose figures are merged in order.
package protocol PairComparing: Sendable {
  /// What one thread reuses from unit to unit.
  associatedtype Scratch
  /// The figures of some elements.
  associatedtype Figures: PairFigures

  /// The name of the work item.
  var name: String { get }
  /// Where units end. This depends only on the pair, so that figures do not depend on the number of threads.
  var cut: UnitCut { get }

  static func makeScratch() -> Scratch

  /// Reads and compares the elements of a unit.
  ///
  /// - Parameter pair: The index of the pair.
  /// - Throws: What reading throws.
  func compare(_ unit: Range<Int>, pair: Int, _ scratch: inout Scratch) throws(CheckpointError) -> Figures

  /// The approximate bytes that the unit reads.
  func byteCount(of unit: Range<Int>) -> Int
}

/// Figures that can be merged.
package protocol PairFigures: Sendable {
  /// Nothing compared yet.
  init()
  /// Adds the figures of later elements.
  mutating func merge(_ later: Self)
}

/// How the elements of a pair are divided into units.
package struct UnitCut: Sendable {
  /// How many there are.
  package let count: Int
  /// No unit goes beyond a multiple of this.
  package let stretch: Int
  /// The elements of a unit, except the last of a stretch.
  package let unit: Int

  /// - Parameter stretch: All of them unless given.
  package init(count: Int, stretch: Int? = nil, unit: Int) {
    self.count = count
    self.stretch = max(1, stretch ?? count)
    self.unit = max(1, unit)
  }

  /// The end of the unit that starts there.
  func end(from start: Int) -> Int {
    min(count, start + unit, (start / stretch + 1) * stretch)
  }
}

extension Array where Element: PairComparing {
  /// Compares all pairs, with units in parallel.
  ///
  /// - Returns: The figures of each pair.
  /// - Throws: What comparing throws, `CancellationError`.
  package func run(threads: Int, monitor: WorkMonitor) async throws -> [Element.Figures] {
    let figures = Mutex(map { _ in Element.Figures() })
    let units = IteratorSequence(PairUnits(cuts: map(\.cut)))
    try await ParallelWork(threads: threads).run(units, scratch: { Element.makeScratch() }) { unit, scratch in
      let comparison = self[unit.pair]
      if unit.range.lowerBound == 0 { monitor.item(comparison.name) }
      let found = try comparison.compare(unit.range, pair: unit.pair, &scratch)
      monitor.advance(comparison.byteCount(of: unit.range))
      return found
    } takeIn: { unit, found, _ in
      figures.withLock { $0[unit.pair].merge(found) }
    }
    return figures.withLock { $0 }
  }
}

/// Some elements of one pair.
private struct PairUnit: Sendable {
  let pair: Int
  let range: Range<Int>
}

/// The units of all pairs, one after another.
private struct PairUnits: IteratorProtocol {
  let cuts: [UnitCut]
  private var pair = 0
  private var start = 0

  init(cuts: [UnitCut]) { self.cuts = cuts }

  mutating func next() -> PairUnit? {
    while pair < cuts.count {
      if start < cuts[pair].count {
        let end = cuts[pair].end(from: start)
        defer { start = end }
        return PairUnit(pair: pair, range: start..<end)
      }
      pair += 1
      start = 0
    }
    return nil
  }
}
