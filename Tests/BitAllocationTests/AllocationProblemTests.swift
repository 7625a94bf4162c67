import BitAllocation
import CheckpointTesting
import Testing

typealias Option = AllocationProblem.Option

/// Brute force over all combinations of options; shares no code with the solver under test.
private func combinations(_ items: [[Option]]) -> [(bytes: Int, cost: Double)] {
  items.reduce([(0, 0.0)]) { sums, options in
    sums.flatMap { sum in options.map { (sum.0 + $0.bytes, sum.1 + $0.cost) } }
  }
}

private func randomItems(_ generator: inout SeededGenerator) -> [[Option]] {
  (0..<Int.random(in: 1...5, using: &generator)).map { _ in
    (0..<Int.random(in: 1...6, using: &generator)).map { _ in
      // Few distinct values, so that ties occur.
      Option(
        bytes: Int.random(in: 1...20, using: &generator),
        cost: Double(Int.random(in: 0...15, using: &generator)) / 4)
    }
  }
}

/// The largest step between neighbours on any item's convex hull.
private func largestStep(_ items: [[Option]]) -> (bytes: Int, cost: Double) {
  var (bytes, cost) = (0, 0.0)
  for options in items {
    let hull = AllocationProblem.hull(options)
    for (small, large) in zip(hull, hull.dropFirst()) {
      bytes = max(bytes, options[large].bytes - options[small].bytes)
      cost = max(cost, options[small].cost - options[large].cost)
    }
  }
  return (bytes, cost)
}

@Suite struct AllocationProblemTests {
  @Test func theHullHoldsEveryOptionThatSomeMultiplierChooses() {
    var generator = SeededGenerator(seed: 1)
    for _ in 0..<500 {
      let options = randomItems(&generator)[0]
      let hull = AllocationProblem.hull(options)
      #expect(zip(hull, hull.dropFirst()).allSatisfy { options[$0].bytes < options[$1].bytes })
      #expect(zip(hull, hull.dropFirst()).allSatisfy { options[$0].cost > options[$1].cost })
      // For every multiplier the best of all options is no better than the best on the hull.
      for step in 0...60 {
        let multiplier = Double(step) / 20
        func price(_ option: Option) -> Double { option.cost + multiplier * Double(option.bytes) }
        let best = options.map(price).min() ?? 0
        let found = hull.map { price(options[$0]) }.min() ?? 0
        #expect(abs(best - found) < 1e-12)
      }
      // No hull point lies on or above the line between two others.
      for (place, middle) in hull.enumerated() where place > 0 && place < hull.count - 1 {
        let (left, right) = (options[hull[place - 1]], options[hull[place + 1]])
        let share = Double(options[middle].bytes - left.bytes) / Double(right.bytes - left.bytes)
        #expect(options[middle].cost < left.cost + share * (right.cost - left.cost))
      }
    }
  }

  @Test func leastCostIsWithinOneStepOfTheOptimum() throws {
    var generator = SeededGenerator(seed: 2)
    var exact = 0
    var tried = 0
    for _ in 0..<400 {
      let items = randomItems(&generator)
      let problem = AllocationProblem(items)
      let all = combinations(items)
      let step = largestStep(items)
      for bytes in stride(from: 1, through: 100, by: 7) {
        let possible = all.filter { $0.bytes <= bytes }.map(\.cost).min()
        let found = problem.leastCost(within: bytes)
        #expect((found == nil) == (possible == nil))
        guard let found, let possible else { continue }
        check(found, items)
        #expect(found.bytes <= bytes)
        #expect(found.cost >= possible - 1e-12 && found.cost <= possible + step.cost + 1e-12)
        tried += 1
        if found.cost <= possible + 1e-12 { exact += 1 }
        // No improvement fits into the bytes that are left.
        for (options, choice) in zip(items, found.choices) {
          for option in options where option.cost < options[choice].cost {
            #expect(found.bytes - options[choice].bytes + option.bytes > bytes)
          }
        }
      }
    }
    #expect(exact * 10 > tried * 8, "\(exact) of \(tried)")
  }

  @Test func fewestBytesIsWithinOneStepOfTheOptimum() throws {
    var generator = SeededGenerator(seed: 3)
    for _ in 0..<400 {
      let items = randomItems(&generator)
      let problem = AllocationProblem(items)
      let all = combinations(items)
      let step = largestStep(items)
      for quarter in stride(from: 0, through: 60, by: 3) {
        let limit = Double(quarter) / 4
        let possible = all.filter { $0.cost <= limit }.map(\.bytes).min()
        let found = problem.fewestBytes(costing: limit)
        #expect((found == nil) == (possible == nil))
        guard let found, let possible else { continue }
        check(found, items)
        #expect(found.cost <= limit)
        #expect(found.bytes >= possible && found.bytes <= possible + step.bytes)
      }
    }
  }

  @Test func aMultipliersChoiceIsOptimalForItsOwnSize() throws {
    var generator = SeededGenerator(seed: 4)
    for _ in 0..<200 {
      let items = randomItems(&generator)
      let problem = AllocationProblem(items)
      for multiplier in [0.01, 0.1, 0.3, 1, 3] {
        // The bytes taken by the choice that the multiplier alone makes; with exactly this budget that choice is optimal.
        var (bytes, cost) = (0, 0.0)
        for options in items {
          let best = options.min {
            let (a, b) = ($0.cost + multiplier * Double($0.bytes), $1.cost + multiplier * Double($1.bytes))
            return (a, $0.bytes) < (b, $1.bytes)
          }
          bytes += best?.bytes ?? 0
          cost += best?.cost ?? 0
        }
        let found = try #require(problem.leastCost(within: bytes))
        #expect(abs(found.cost - cost) < 1e-9)
      }
    }
  }

  @Test func limitsBeyondTheRangeGiveItsEnds() {
    let items = [[Option(bytes: 5, cost: 1), Option(bytes: 2, cost: 3)], [Option(bytes: 4, cost: 0)]]
    let problem = AllocationProblem(items)
    #expect(problem.smallest.choices == [1, 0] && problem.smallest.bytes == 6)
    #expect(problem.best.choices == [0, 0] && problem.best.cost == 1)
    #expect(problem.leastCost(within: 5) == nil)
    #expect(problem.leastCost(within: 8)?.choices == [1, 0])
    #expect(problem.leastCost(within: 1000) == problem.leastCost(within: 9))
    #expect(problem.fewestBytes(costing: 0.5) == nil)
    #expect(problem.fewestBytes(costing: 50)?.bytes == 6)
  }

  private func check(_ allocation: Allocation, _ items: [[Option]]) {
    var (bytes, cost) = (0, 0.0)
    for (options, choice) in zip(items, allocation.choices) {
      bytes += options[choice].bytes
      cost += options[choice].cost
    }
    #expect(allocation.bytes == bytes && abs(allocation.cost - cost) < 1e-12)
  }
}
