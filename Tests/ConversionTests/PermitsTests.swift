import Testing

@testable import Conversion

/// What bounds the units under way.
@Suite struct PermitsTests {
  @Test("who wants few does not overtake who wants many") func order() async throws {
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

  @Test("who is cancelled goes away, and those behind move up") func cancellation() async throws {
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

  @Test("more than there are means all of them") func tooMany() async throws {
    let permits = Permits(2)
    try await permits.take(1_000)
    let next = Task { try await permits.take(1) }
    try await waiting(1, permits)
    permits.giveBack(1_000)
    try await next.value
  }

  @Test("permits that are held go back with the last reference") func held() async throws {
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

  /// Lets others run until so many tasks wait.
  private func waiting(_ count: Int, _ permits: Permits) async throws {
    while permits.waitingCount < count { try await Task.sleep(for: .milliseconds(1)) }
  }

  private actor Log {
    private(set) var notes: [String] = []
    func note(_ text: String) { notes.append(text) }
  }
}

/// Which source files are under way together.
@Suite struct StreamOrderTests {
  @Test("files with outputs of their own go side by side, up to the width") func disjoint() {
    var order = StreamOrder(outputBytes: [[0: 10], [1: 10], [2: 10], [3: 10]], width: 3)
    #expect([order.next(), order.next(), order.next(), order.next()] == [0, 1, 2, nil])
    order.finish(1)
    #expect(order.next() == 3)
  }

  @Test("files of one output go one after the other") func shared() {
    var order = StreamOrder(outputBytes: [[0: 10], [0: 10], [0: 10]], width: 8)
    #expect(order.next() == 0)
    #expect(order.next() == nil)
    order.finish(0)
    #expect(order.next() == 1)
    #expect(order.next() == nil)
  }

  @Test("a file that gives little to a shared output does not wait for it") func little() {
    // Norms go to one file, experts to one of their own.
    var order = StreamOrder(outputBytes: [[0: 1, 1: 99], [0: 1, 2: 99], [0: 50, 3: 50]], width: 8)
    #expect(order.next() == 0)
    #expect(order.next() == 1)
    #expect(order.next() == nil)
    order.finish(0)
    #expect(order.next() == nil)
    order.finish(1)
    #expect(order.next() == 2)
  }

  @Test("a later output begins while an earlier one is being filled") func later() {
    var order = StreamOrder(outputBytes: [[0: 10], [0: 10], [1: 10], [1: 10]], width: 8)
    #expect(order.next() == 0)
    #expect(order.next() == 2)
    #expect(order.next() == nil)
    order.finish(2)
    #expect(order.next() == 3)
    order.finish(0)
    #expect(order.next() == 1)
  }

  @Test("every file gets its turn, however they depend on each other", arguments: 0..<20)
  func complete(seed: Int) {
    var state = UInt64(seed) &* 0x9E37_79B9_7F4A_7C15 | 1
    func random(_ limit: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % limit
    }
    let files = (0..<40).map { _ in
      Dictionary((0..<3).map { _ in (random(9), random(100)) }, uniquingKeysWith: +)
    }
    var order = StreamOrder(outputBytes: files, width: 1 + random(5))
    var running: [Int] = []
    var seen: [Int] = []
    while true {
      while let next = order.next() { running.append(next) }
      if running.isEmpty { break }
      let done = running.remove(at: random(running.count))
      order.finish(done)
      seen.append(done)
    }
    #expect(seen.sorted() == Array(0..<40))
  }
}
