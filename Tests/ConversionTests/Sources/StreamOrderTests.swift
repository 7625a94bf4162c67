import Conversion
import Testing

/// Which source files are read concurrently.
@Suite struct StreamOrderTests {
  @Test("files with separate outputs are read concurrently, up to the width") func disjoint() {
    var order = StreamOrder(outputBytes: [[0: 10], [1: 10], [2: 10], [3: 10]], width: 3)
    #expect([order.next(), order.next(), order.next(), order.next()] == [0, 1, 2, nil])
    order.finish(1)
    #expect(order.next() == 3)
  }

  @Test("files that share an output are read one after the other") func shared() {
    var order = StreamOrder(outputBytes: [[0: 10], [0: 10], [0: 10]], width: 8)
    #expect(order.next() == 0)
    #expect(order.next() == nil)
    order.finish(0)
    #expect(order.next() == 1)
    #expect(order.next() == nil)
  }

  @Test("a file that contributes little to a shared output does not wait for it") func little() {
    // Norms go to one file, experts to another.
    var order = StreamOrder(outputBytes: [[0: 1, 1: 99], [0: 1, 2: 99], [0: 50, 3: 50]], width: 8)
    #expect(order.next() == 0)
    #expect(order.next() == 1)
    #expect(order.next() == nil)
    order.finish(0)
    #expect(order.next() == nil)
    order.finish(1)
    #expect(order.next() == 2)
  }

  @Test("a later output can begin while an earlier one is being filled") func later() {
    var order = StreamOrder(outputBytes: [[0: 10], [0: 10], [1: 10], [1: 10]], width: 8)
    #expect(order.next() == 0)
    #expect(order.next() == 2)
    #expect(order.next() == nil)
    order.finish(2)
    #expect(order.next() == 3)
    order.finish(0)
    #expect(order.next() == 1)
  }

  @Test("every file is read eventually, however they depend on each other", arguments: 0..<20)
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
