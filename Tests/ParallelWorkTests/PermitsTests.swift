import ParallelWork
import Testing

/// Permits bound the units in progress.
@Suite("permits", .timeLimit(.minutes(10))) struct PermitsTests {
  @Test("a small request does not overtake a large one") func order() async throws {
    let permits = Permits(3)
    try await permits.take(3)
    let log = Log()
    let many = Task {
      try await permits.take(3)
      await log.note("many")
    }
    try await waiting(1, permits)
    let few = Task {
      try await permits.take(1)
      await log.note("few")
    }
    try await waiting(2, permits)
    permits.giveBack(2)
    #expect(permits.waitingCount == 2)
    permits.giveBack(1)
    try await many.value
    #expect(permits.waitingCount == 1)
    permits.giveBack(3)
    try await few.value
    #expect(await log.notes == ["many", "few"])
  }

  @Test("a cancelled waiter leaves the queue, and those behind it move up") func cancellation() async throws {
    let permits = Permits(2)
    try await permits.take(1)
    let many = Task { try await permits.take(2) }
    try await waiting(1, permits)
    let few = Task { try await permits.take(1) }
    try await waiting(2, permits)
    many.cancel()
    await #expect(throws: CancellationError.self) { try await many.value }
    try await few.value
    #expect(permits.waitingCount == 0)
  }

  @Test("a request for more permits than exist takes all of them") func tooMany() async throws {
    let permits = Permits(2)
    try await permits.take(1_000)
    let next = Task { try await permits.take(1) }
    try await waiting(1, permits)
    permits.giveBack(1_000)
    try await next.value
  }

  @Test("held permits are returned with the last reference") func held() async throws {
    let permits = Permits(1)
    try await permits.take()
    var holder: HeldPermits? = HeldPermits(permits, 1)
    let copy = holder
    holder = nil
    let next = Task { try await permits.take() }
    try await waiting(1, permits)
    withExtendedLifetime(copy) {}
    _ = consume copy
    try await next.value
  }

  @Test("waiters are served in order of arrival") func fairness() async throws {
    let permits = Permits(1)
    try await permits.take()
    let log = Log()
    var tasks: [Task<Void, any Error>] = []
    for number in 0..<150 {
      tasks.append(Task { try await permits.with { await log.note("\(number)") } })
      try await waiting(number + 1, permits)
    }
    permits.giveBack()
    for task in tasks { try await task.value }
    #expect(await log.notes == (0..<150).map(String.init))
    #expect(permits.available == 1 && permits.waitingCount == 0)
  }

  @Test("blocking calls get a thread each, up to the width") func blocking() async throws {
    let calls = BlockingCalls("test", width: 5)
    let meeting = Meeting()
    // Each of the five waits until all five are there.
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<5 {
        group.addTask {
          try await calls.run {
            meeting.announce("\(number)")
            for other in 0..<5 { meeting.await("\(other)") }
          }
        }
      }
      try await group.waitForAll()
    }
    await #expect(throws: CancellationError.self) { try await calls.run { throw CancellationError() } }
  }

  /// Yields until the given number of tasks are waiting.
  private func waiting(_ count: Int, _ permits: Permits) async throws {
    while permits.waitingCount < count { try await Task.sleep(for: .milliseconds(1)) }
  }

  private actor Log {
    private(set) var notes: [String] = []
    func note(_ text: String) { notes.append(text) }
  }
}
