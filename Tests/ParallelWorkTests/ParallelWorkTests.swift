import ParallelWork
import Testing

@Suite("parallel work", .timeLimit(.minutes(10))) struct ParallelWorkTests {
  private let meeting = Meeting()
  private let log = Log<Int>()

  // MARK: Order

  @Test func resultsAreConsumedInUnitOrder() async throws {
    // The first of four units can finish only after the last.
    try await ParallelWork(threads: 4).run(0..<40) { unit in
      if unit % 4 == 0 { meeting.await("\(unit + 3)") }
      meeting.announce("\(unit)")
      return unit * unit
    } takeIn: { unit, square in
      #expect(square == unit * unit)
      log.append(unit)
    }
    #expect(log.entries == Array(0..<40))
  }

  @Test func resultsAreConsumedAsBodiesFinish() async throws {
    try await ParallelWork(threads: 3).run(0..<30, delivering: .asFinished) { unit in
      if unit == 0 { meeting.await("29") }
      return unit
    } takeIn: { unit, _ in
      log.append(unit)
      meeting.announce("\(unit)")
    }
    #expect(log.entries.sorted() == Array(0..<30) && log.entries.last == 0)
  }

  @Test(arguments: [ParallelWork.Delivery.inOrder, .asFinished])
  func resultsAreConsumedOneAtATime(_ delivery: ParallelWork.Delivery) async throws {
    let counter = Counter()
    try await ParallelWork(threads: 4, inFlight: 9).run(0..<500, delivering: delivery) {
      $0
    } takeIn: { _, _ in
      counter.enter()
      await Task.yield()
      counter.leave()
    }
    #expect(counter.peak == 1 && counter.total == 500)
  }

  @Test func noUnitsRunNothing() async throws {
    try await ParallelWork(threads: 4).run([Int]()) {
      log.append($0)
    } takeIn: { unit, _ in
      log.append(unit)
    }
    #expect(log.entries.isEmpty)
  }

  // MARK: Bounds

  /// More bodies than processors may wait for each other: each has a thread.
  @Test(arguments: [(1, 1), (3, 8), (16, 16), (48, 60), (5, 2)])
  func asManyBodiesRunAsThreads(_ threads: Int, _ inFlight: Int) async throws {
    let counter = Counter()
    let expected = min(threads, inFlight)
    try await ParallelWork(threads: threads, inFlight: inFlight).run(0..<300) { unit in
      if counter.enter() == expected { meeting.announce("all") }
      if unit < expected { meeting.await("all") }
      counter.leave()
    } takeIn: { _, _ in
    }
    #expect(counter.peak == expected && counter.total == 300)
  }

  @Test(arguments: [(1, 1), (2, 7), (4, 4), (2, 64)])
  func unitsInFlightAreBounded(_ threads: Int, _ inFlight: Int) async throws {
    let counter = Counter()
    let meeting = meeting
    let units = (0..<400).lazy.map { unit in
      if counter.enter() == inFlight { meeting.announce("full") }
      return unit
    }
    let scratches = Counter()
    try await ParallelWork(threads: threads, inFlight: inFlight).run(units, scratch: { scratches.enter() }) {
      unit, _ in
      unit
    } takeIn: { unit, _, _ in
      // While the first unit is not consumed, others are started until the bound is reached.
      if unit == 0 { meeting.await("full") }
      counter.leave()
    }
    #expect(counter.peak == inFlight && counter.total == 400)
    #expect(scratches.total == inFlight)
  }

  @Test func scratchStaysWithItsUnit() async throws {
    try await ParallelWork(threads: 3, inFlight: 5).run(0..<200, scratch: { [Int]() }) { unit, scratch in
      scratch.removeAll(keepingCapacity: true)
      scratch.append(unit)
    } takeIn: { unit, _, scratch in
      if scratch == [unit] { log.append(unit) }
    }
    #expect(log.entries == Array(0..<200))
  }

  // MARK: Errors

  @Test func theFirstFailingUnitWins() async throws {
    // The fifth fails before the third does, yet the third's error is reported.
    let error = await #expect(throws: Fault.self) {
      try await ParallelWork(threads: 6).run(0..<1000) { unit in
        if unit == 5 {
          meeting.announce("5 fails")
          throw Fault(number: 5)
        }
        if unit == 3 {
          meeting.await("5 fails")
          throw Fault(number: 3)
        }
        return unit
      } takeIn: { unit, _ in
        log.append(unit)
      }
    }
    #expect(error == Fault(number: 3))
    #expect(log.entries == [0, 1, 2])
  }

  @Test func theFirstErrorInTimeWins() async throws {
    let error = await #expect(throws: Fault.self) {
      try await ParallelWork(threads: 2).run(0..<1000, delivering: .asFinished) { unit in
        if unit == 1 { throw Fault(number: 1) }
        guard unit == 0 else { return }
        // The other unit's error has cancelled everything, including this task.
        while !Task.isCancelled { await Task.yield() }
        throw Fault(number: 0)
      } takeIn: { unit, _ in
        log.append(unit)
      }
    }
    #expect(error == Fault(number: 1))
    #expect(log.entries.isEmpty)
  }

  @Test func anErrorEndsAnEndlessSequence() async throws {
    let pulled = Counter()
    let units = sequence(state: 0) { (next: inout Int) -> Int? in
      pulled.enter()
      defer { next += 1 }
      return next
    }
    let error = await #expect(throws: Fault.self) {
      try await ParallelWork(threads: 2, inFlight: 6).run(units) { unit in
        if unit == 100 { throw Fault(number: unit) }
      } takeIn: { unit, _ in
        log.append(unit)
      }
    }
    #expect(error == Fault(number: 100))
    #expect(log.entries == Array(0..<100))
    // The failing unit and those in flight after it, and no more.
    #expect((101...106).contains(pulled.total))
  }

  @Test(arguments: [ParallelWork.Delivery.inOrder, .asFinished])
  func anErrorOfTheConsumerCancelsTheRest(_ delivery: ParallelWork.Delivery) async throws {
    let cancelled = Counter()
    let error = await #expect(throws: Fault.self) {
      try await ParallelWork(threads: 4).run(0..<1000, delivering: delivery) { unit in
        guard unit > 0 else { return meeting.await("2 begun") }
        if unit == 2 { meeting.announce("2 begun") }
        while !Task.isCancelled { await Task.yield() }
        cancelled.enter()
      } takeIn: { unit, _ in
        throw Fault(number: unit)
      }
    }
    #expect(error == Fault(number: 0))
    #expect((1...3).contains(cancelled.total))
  }

  @Test func cancellationFromOutsideStopsTheWork() async throws {
    let (meeting, log) = (meeting, log)
    let begun = Counter()
    let task = Task {
      try await ParallelWork(threads: 3, inFlight: 8).run(0..<1_000_000) { unit in
        begun.enter()
        if unit == 10 { meeting.announce("10") }
        while unit >= 10, !Task.isCancelled { await Task.yield() }
      } takeIn: { unit, _ in
        log.append(unit)
        if unit == 9 { meeting.announce("9 taken in") }
      }
    }
    while !(meeting.hasHappened("9 taken in") && meeting.hasHappened("10")), !Task.isCancelled {
      await Task.yield()
    }
    task.cancel()
    let result = await task.result
    #expect(throws: CancellationError.self) { try result.get() }
    #expect(log.entries == Array(0..<10))
    // The units in flight, and no more.
    #expect(begun.total <= 18)
  }

  @Test func aTaskCancelledBeforehandRunsNothing() async throws {
    let log = log
    let task = Task {
      while !Task.isCancelled { await Task.yield() }
      try await ParallelWork(threads: 2).run(0..<10) {
        log.append($0)
      } takeIn: { _, _ in
      }
    }
    task.cancel()
    let result = await task.result
    #expect(throws: CancellationError.self) { try result.get() }
    #expect(log.entries.isEmpty)
  }

  // MARK: Stages

  /// Two stages with bounds of their own, as reading and computing need them.
  @Test func stagesHaveTheirOwnBounds() async throws {
    let (reads, computing) = (Counter(), Counter())
    let (readLimit, computeLimit) = (Permits(5), Permits(2))
    try await ParallelWork(threads: 8).run(0..<300) { unit in
      try await readLimit.with {
        if reads.enter() == 5 { meeting.announce("five read") }
        if unit < 5 { meeting.await("five read") }
        reads.leave()
      }
      try await computeLimit.with {
        if computing.enter() == 2 { meeting.announce("two compute") }
        if unit < 8 { meeting.await("two compute") }
        computing.leave()
      }
    } takeIn: { unit, _ in
      log.append(unit)
    }
    #expect(reads.peak == 5 && computing.peak == 2)
    #expect(log.entries == Array(0..<300))
  }
}
