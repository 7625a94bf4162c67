import Comparison
import ParallelWork
import Synchronization
import TensorFormats
import Testing

/// How pairs are divided into units, whatever is compared.
@Suite("dividing pairs into units") struct PairComparingTests {
  /// Records the units that it is given.
  private struct Probe: PairComparing {
    struct Figures: PairFigures {
      var units: [Range<Int>] = []
      mutating func merge(_ later: Figures) { units += later.units }
    }

    let name: String
    let cut: UnitCut
    var failing: Int?

    static func makeScratch() {}

    func compare(_ unit: Range<Int>, pair: Int, _ scratch: inout Void) throws(CheckpointError) -> Figures {
      if let failing, unit.contains(failing) { throw CheckpointError(.truncated, "at \(failing)") }
      return Figures(units: [unit])
    }

    func byteCount(of unit: Range<Int>) -> Int { unit.count }
  }

  @Test(
    "units cover all elements in order and never cross the end of a stretch", arguments: [1, 2, 5],
    [(0, 1, 1), (1, 1, 1), (100, 100, 7), (100, 25, 7), (1 << 20, 4096, 1 << 18), (77, 7, 100), (64, 64, 64)])
  func cover(_ threads: Int, _ shape: (count: Int, stretch: Int, unit: Int)) async throws {
    let (count, stretch, unit) = shape
    let probes = [
      Probe(name: "first", cut: UnitCut(count: count, stretch: stretch, unit: unit)),
      Probe(name: "empty", cut: UnitCut(count: 0, unit: unit)),
      Probe(name: "last", cut: UnitCut(count: count, unit: unit)),
    ]
    let figures = try await probes.run(threads: threads, monitor: WorkMonitor())
    #expect(figures[1].units.isEmpty)
    for (found, stretch) in [(figures[0], stretch), (figures[2], max(1, count))] {
      var end = 0
      for range in found.units {
        #expect(range.lowerBound == end && !range.isEmpty && range.count <= unit)
        #expect(range.lowerBound / stretch == (range.upperBound - 1) / stretch)
        // Only the end of a stretch, or of the tensor, makes a unit short.
        #expect(
          range.count == unit || range.upperBound % stretch == 0 || range.upperBound == count, "\(range)")
        end = range.upperBound
      }
      #expect(end == count)
    }
  }

  @Test func reportsEveryPairAndAllBytes() async throws {
    let probes = (0..<40).map { Probe(name: "\($0)", cut: UnitCut(count: 100 + $0, unit: 9)) }
    let seen = Mutex((names: Set<String>(), bytes: 0))
    let monitor = WorkMonitor(
      advance: { bytes in seen.withLock { $0.bytes += bytes } },
      item: { name in seen.withLock { _ = $0.names.insert(name) } })
    _ = try await probes.run(threads: 3, monitor: monitor)
    #expect(seen.withLock { $0.names.count } == 40)
    #expect(seen.withLock { $0.bytes } == (0..<40).reduce(0) { $0 + 100 + $1 })
  }

  @Test func throwsWhatTheFirstFailingUnitThrows() async throws {
    var probes = (0..<9).map { Probe(name: "\($0)", cut: UnitCut(count: 1000, unit: 10)) }
    probes[4].failing = 555
    probes[6].failing = 5
    let error = await #expect(throws: CheckpointError.self) {
      _ = try await probes.run(threads: 4, monitor: WorkMonitor())
    }
    #expect(error?.message == "at 555")
  }
}
