/// A set of scalars, as a character class of a regular expression states it: categories, ranges, or all but these.
struct ScalarSet: Hashable, Sendable {
  /// One bit per category of ``ScalarCategory``.
  private(set) var categories: UInt32 = 0
  /// Rising, apart from each other.
  private(set) var ranges: [ClosedRange<UInt32>] = []
  /// Whether the set is what the two above do not hold.
  private(set) var isInverted = false
  /// The members below U+0080, which most text consists of.
  private var low: (UInt64, UInt64) = (0, 0)

  init(categories: UInt32 = 0, ranges: [ClosedRange<UInt32>] = [], isInverted: Bool = false) {
    self.categories = categories
    self.ranges = Self.merged(ranges)
    self.isInverted = isInverted
    for value in 0..<0x80 as Range<UInt32> {
      guard let scalar = Unicode.Scalar(value), containsSlowly(value, ScalarCategory.of(scalar)) else {
        continue
      }
      if value < 64 { low.0 |= 1 << UInt64(value) } else { low.1 |= 1 << UInt64(value - 64) }
    }
  }

  /// Unicode's White_Space, which is what `\s` means.
  static let whiteSpace = ScalarSet(ranges: [
    0x09...0x0D, 0x20...0x20, 0x85...0x85, 0xA0...0xA0, 0x1680...0x1680, 0x2000...0x200A, 0x2028...0x2029,
    0x202F...0x202F, 0x205F...0x205F, 0x3000...0x3000,
  ])

  /// Everything but a line feed, which is what `.` means.
  static let notLineFeed = ScalarSet(ranges: [0x0A...0x0A], isInverted: true)

  /// All that this set does not hold.
  var inverted: ScalarSet {
    ScalarSet(categories: categories, ranges: ranges, isInverted: !isInverted)
  }

  /// The union with another set, as far as it can be stated: `nil` where one is inverted and neither is given by
  /// ranges or by categories alone.
  func union(_ other: ScalarSet) -> ScalarSet? {
    guard let left = upright, let right = other.upright else { return nil }
    return ScalarSet(categories: left.categories | right.categories, ranges: left.ranges + right.ranges)
  }

  /// The same set without inversion; `nil` if it mixes both.
  private var upright: ScalarSet? {
    guard isInverted else { return self }
    if ranges.isEmpty { return ScalarSet(categories: ~categories & ScalarCategory.everything) }
    guard categories == 0 else { return nil }
    var gaps: [ClosedRange<UInt32>] = []
    var next: UInt32 = 0
    for range in ranges {
      if next < range.lowerBound { gaps.append(next...(range.lowerBound - 1)) }
      next = range.upperBound + 1
    }
    if next <= 0x10FFFF { gaps.append(next...0x10FFFF) }
    return ScalarSet(ranges: gaps)
  }

  /// Whether the set holds a scalar, whose category the caller knows.
  @inline(__always)
  func contains(_ value: UInt32, _ category: UInt8) -> Bool {
    if value < 64 { return low.0 >> UInt64(value) & 1 == 1 }
    if value < 128 { return low.1 >> UInt64(value - 64) & 1 == 1 }
    return containsSlowly(value, category)
  }

  private func containsSlowly(_ value: UInt32, _ category: UInt8) -> Bool {
    if categories >> UInt32(category) & 1 == 1 { return !isInverted }
    for range in ranges where value <= range.upperBound {
      return (range.lowerBound <= value) != isInverted
    }
    return isInverted
  }

  private static func merged(_ ranges: [ClosedRange<UInt32>]) -> [ClosedRange<UInt32>] {
    var result: [ClosedRange<UInt32>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = result.last, range.lowerBound <= last.upperBound &+ 1 {
        result[result.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
      } else {
        result.append(range)
      }
    }
    return result
  }

  static func == (left: ScalarSet, right: ScalarSet) -> Bool {
    left.categories == right.categories && left.ranges == right.ranges && left.isInverted == right.isInverted
  }

  func hash(into hasher: inout Hasher) {
    hasher.combine(categories)
    hasher.combine(ranges)
    hasher.combine(isInverted)
  }
}
