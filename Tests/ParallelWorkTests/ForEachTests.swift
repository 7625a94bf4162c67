import ParallelWork
import Synchronization
import Testing

@Suite("a parallel loop", .timeLimit(.minutes(10))) struct ForEachTests {
  @Test(arguments: [0, 1, 2, 7, 1000], [1, 2, 5])
  func everyIndexRunsOnce(_ count: Int, _ threads: Int) throws {
    let log = Log<Int>()
    let running = Counter()
    let scratches = Counter()
    try ParallelWork.forEach(below: count, threads: threads, scratch: { scratches.enter() }) { index, _ in
      running.enter()
      log.append(index)
      running.leave()
    }
    #expect(log.entries.sorted() == Array(0..<count))
    #expect(running.peak <= threads && scratches.total <= min(threads, count))
  }

  @Test func scratchStaysWithItsThread() throws {
    let sums = Mutex(0)
    final class Sum {
      var value = 0
      let report: (Int) -> Void
      init(_ report: @escaping (Int) -> Void) { self.report = report }
      deinit { report(value) }
    }
    try ParallelWork.forEach(
      below: 1000, threads: 3, scratch: { Sum { value in sums.withLock { $0 += value } } }
    ) { index, sum in sum.value += index }
    #expect(sums.withLock { $0 } == 1000 * 999 / 2)
  }

  @Test(arguments: [1, 2]) func theFirstErrorEndsIt(_ threads: Int) throws {
    let begun = Counter()
    let error = #expect(throws: Fault.self) {
      try ParallelWork.forEach(below: 1_000_000, threads: threads) { index in
        begun.enter()
        if index >= 10 { throw Fault(number: index) }
      }
    }
    // On one thread the eleventh is the last; each further thread may be in the middle of another.
    #expect(begun.total <= 10 + threads)
    if threads == 1 { #expect(error == Fault(number: 10)) }
  }
}
