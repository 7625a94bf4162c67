/// The storage options of a number of items, with their sizes and costs: one option has to be chosen for each,
/// minimising the total cost within a limit on the total bytes, or the other way round.
///
/// On the lower convex hulls of the options one Lagrange multiplier decides: a step to a larger option is taken if it
/// saves at least that much cost per byte. What the multiplier leaves of the limit is filled step by step. The cost
/// exceeds the least possible by at most that of one step.
///
/// Knows nothing about tensors and formats. The same options give the same choice; ties go to the first.
public struct AllocationProblem: Sendable {
  /// One way to store an item.
  public struct Option: Hashable, Sendable {
    /// Its size.
    public var bytes: Int
    /// Its cost: finite and not negative.
    public var cost: Double

    /// Makes an option.
    public init(bytes: Int, cost: Double) {
      self.bytes = bytes
      self.cost = cost
    }
  }

  /// The options of each item, at least one each.
  public let items: [[Option]]
  /// For each item, the options on its lower convex hull, by ascending bytes.
  private let hulls: [[Int]]
  /// The savings per byte of the steps on the hulls, each value once, largest first.
  private let multipliers: [Double]

  /// Describes a problem.
  ///
  /// - Precondition: Each item has an option, and sums of bytes do not overflow.
  /// - Complexity: O(*n* log *n*) in the number of options.
  public init(_ items: [[Option]]) {
    precondition(items.allSatisfy { !$0.isEmpty }, "there is an item without options")
    self.items = items
    hulls = items.map(Self.hull)
    var multipliers: Set<Double> = []
    for (options, hull) in zip(items, hulls) {
      for (small, large) in zip(hull, hull.dropFirst()) {
        multipliers.insert(Self.saving(from: options[small], to: options[large]))
      }
    }
    self.multipliers = multipliers.sorted(by: >)
  }

  /// The saving per byte of a step to a larger option.
  private static func saving(from small: Option, to large: Option) -> Double {
    (small.cost - large.cost) / Double(large.bytes - small.bytes)
  }

  /// The options that are best for some multiplier, by ascending bytes and descending cost: those not above any mixture
  /// of two others.
  ///
  /// - Complexity: O(*n* log *n*).
  public static func hull(_ options: [Option]) -> [Int] {
    let sorted = options.indices.sorted {
      (options[$0].bytes, options[$0].cost, $0) < (options[$1].bytes, options[$1].cost, $1)
    }
    var hull: [Int] = []
    for index in sorted {
      if let last = hull.last {
        // More bytes for no less cost, or the same bytes.
        guard options[index].cost < options[last].cost, options[index].bytes > options[last].bytes else {
          continue
        }
      }
      while hull.count > 1,
        saving(from: options[hull[hull.count - 2]], to: options[hull[hull.count - 1]])
          <= saving(from: options[hull[hull.count - 1]], to: options[index])
      {
        hull.removeLast()
      }
      hull.append(index)
    }
    return hull
  }
}

/// A choice.
public struct Allocation: Hashable, Sendable {
  /// For each item, the index of its option.
  public var choices: [Int]
  /// The sum of their bytes.
  public var bytes: Int
  /// The sum of their costs.
  public var cost: Double
  /// The multiplier: roughly what one more byte would save. 0 if nothing is left to save.
  public var multiplier: Double
}

// MARK: - Extremes

extension AllocationProblem {
  /// The fewest bytes possible.
  public var smallest: Allocation { allocation(hulls.map { $0[0] }, multiplier: multipliers.first ?? 0) }

  /// The least cost possible, with the fewest bytes for it.
  public var best: Allocation { allocation(hulls.map { $0[$0.count - 1] }, multiplier: 0) }

  private func allocation(_ choices: [Int], multiplier: Double) -> Allocation {
    var (bytes, cost) = (0, 0.0)
    for (options, choice) in zip(items, choices) {
      bytes += options[choice].bytes
      cost += options[choice].cost
    }
    return Allocation(choices: choices, bytes: bytes, cost: cost, multiplier: multiplier)
  }

  /// The choice at a multiplier: all steps that save at least that much per byte.
  private func allocation(at multiplier: Double) -> Allocation {
    var choices: [Int] = []
    for (options, hull) in zip(items, hulls) {
      var place = 0
      while place + 1 < hull.count,
        Self.saving(from: options[hull[place]], to: options[hull[place + 1]]) >= multiplier
      {
        place += 1
      }
      choices.append(hull[place])
    }
    return allocation(choices, multiplier: multiplier)
  }

  /// The last choice, from the smallest to the best, that satisfies a condition which stops holding at some point.
  ///
  /// - Returns: `nil` if none satisfies it.
  private func last(where holds: (Allocation) -> Bool) -> (found: Allocation, next: Allocation?)? {
    var found = smallest
    guard holds(found) else { return nil }
    var (low, high) = (0, multipliers.count)
    while low < high {
      let middle = (low + high) / 2
      let choice = allocation(at: multipliers[middle])
      if holds(choice) {
        found = choice
        low = middle + 1
      } else {
        high = middle
      }
    }
    return (found, low < multipliers.count ? allocation(at: multipliers[low]) : nil)
  }
}

// MARK: - Choosing

extension AllocationProblem {
  /// The least cost with at most `bytes` bytes.
  ///
  /// - Returns: `nil` if even the smallest options together are larger.
  /// - Complexity: O(*n* log *n*) for the multiplier, and O(*n*) for each step that fills what it leaves.
  public func leastCost(within bytes: Int) -> Allocation? {
    guard var (chosen, _) = last(where: { $0.bytes <= bytes }) else { return nil }
    while true {
      var step: (item: Int, option: Int, saving: Double)?
      for (item, options) in items.enumerated() {
        let now = options[chosen.choices[item]]
        for (index, option) in options.enumerated()
        where option.bytes > now.bytes && option.bytes - now.bytes <= bytes - chosen.bytes
          && option.cost < now.cost
        {
          let saving = Self.saving(from: now, to: option)
          if saving > step?.saving ?? 0 { step = (item, index, saving) }
        }
      }
      guard let step else { return chosen }
      chosen = taking(step.option, of: step.item, in: chosen)
    }
  }

  /// The fewest bytes with at most that cost.
  ///
  /// - Returns: `nil` if even the best options together cost more.
  /// - Complexity: As ``leastCost(within:)``.
  public func fewestBytes(costing limit: Double) -> Allocation? {
    var chosen: Allocation
    if let (_, next) = last(where: { $0.cost > limit }) {
      // The first within the limit, if any.
      guard let next, next.cost <= limit else { return nil }
      chosen = next
    } else {
      chosen = smallest
    }
    while true {
      var step: (item: Int, option: Int, bytes: Int)?
      for (item, options) in items.enumerated() {
        let now = options[chosen.choices[item]]
        for (index, option) in options.enumerated()
        where option.bytes < now.bytes && option.cost - now.cost <= limit - chosen.cost {
          if now.bytes - option.bytes > step?.bytes ?? 0 { step = (item, index, now.bytes - option.bytes) }
        }
      }
      guard let step else { return chosen }
      let smaller = taking(step.option, of: step.item, in: chosen)
      // Sums in another order may differ in their last bits.
      guard smaller.cost <= limit else { return chosen }
      chosen = smaller
    }
  }

  private func taking(_ option: Int, of item: Int, in allocation: Allocation) -> Allocation {
    var choices = allocation.choices
    choices[item] = option
    return self.allocation(choices, multiplier: allocation.multiplier)
  }
}
