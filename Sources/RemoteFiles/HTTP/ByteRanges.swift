/// The byte ranges of a file that are present: in order, with gaps between them.
package struct ByteRanges: Hashable, Sendable {
  package private(set) var ranges: [Range<Int>] = []

  package init() {}

  /// The total number of bytes.
  package var count: Int { ranges.reduce(0) { $0 + $1.count } }

  /// Adds a range.
  ///
  /// - Complexity: O(log *n*) to find its position, O(*n*) to insert it.
  package mutating func insert(_ range: Range<Int>) {
    guard !range.isEmpty else { return }
    // The ranges that touch it are consecutive.
    let first = index { $0.upperBound >= range.lowerBound }
    let end = index { $0.lowerBound > range.upperBound }
    let touched = ranges[first..<max(first, end)]
    let lower = min(range.lowerBound, touched.first?.lowerBound ?? range.lowerBound)
    let upper = max(range.upperBound, touched.last?.upperBound ?? range.upperBound)
    ranges.replaceSubrange(first..<max(first, end), with: [lower..<upper])
  }

  /// The missing ranges of the first `byteCount` bytes.
  package func gaps(in byteCount: Int) -> [Range<Int>] {
    var gaps: [Range<Int>] = []
    var position = 0
    for range in ranges {
      if range.lowerBound > position { gaps.append(position..<range.lowerBound) }
      position = range.upperBound
    }
    if position < byteCount { gaps.append(position..<byteCount) }
    return gaps
  }

  /// The first index whose range satisfies a monotone condition.
  private func index(where condition: (Range<Int>) -> Bool) -> Int {
    var (low, high) = (0, ranges.count)
    while low < high {
      let middle = (low + high) / 2
      if condition(ranges[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}

// MARK: - On disk

extension ByteRanges {
  private static let title = "step3-toolkit ranges 1"

  /// The text form: one line for the file size, one for each range.
  package func text(of byteCount: Int) -> String {
    ([Self.title, "\(byteCount)"] + ranges.map { "\($0.lowerBound)-\($0.upperBound)" }).joined(
      separator: "\n") + "\n"
  }

  /// - Returns: `nil` for anything that is not the output of ``text(of:)`` for a file of that size.
  package init?(_ text: String, of byteCount: Int) {
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
    guard lines.count >= 3, lines[0] == Self.title, lines[1] == "\(byteCount)", lines.last == "" else {
      return nil
    }
    for line in lines[2..<lines.count - 1] {
      let ends = line.split(separator: "-", omittingEmptySubsequences: false)
      guard ends.count == 2, let lower = ResponseHead.count(ends[0]), let upper = ResponseHead.count(ends[1]),
        lower < upper, upper <= byteCount, lower > ranges.last?.upperBound ?? -1
      else { return nil }
      ranges.append(lower..<upper)
    }
  }
}
