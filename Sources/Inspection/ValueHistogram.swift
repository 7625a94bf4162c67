/// A histogram of values, in bins that need not be chosen before the values are known.
///
/// A bin is the upper sixteen bits of an F32: sign, exponent and seven bits of the fraction, which is a BF16.
/// Neighbouring bins differ by at most 2⁻⁷ of their value, over the whole range, so that one pass suffices. Counts are
/// exact and can be added in any order: histograms of pieces, merged, are the histogram of the whole to the last count.
/// Memory is bounded by the number of bins, 65,280, of which weights use a few thousand.
///
/// Results are exact if every value is a BF16, as are those of BF16, FP8, FP4 and integers up to 256; otherwise they
/// are the middle of a bin, off by at most 2⁻⁸ (0.4 %), or by 2⁻¹³³ below the smallest normal number. NaN and
/// infinities are left out; zeros of either sign are one value. Values beyond the largest F32 count as that.
package struct ValueHistogram: Hashable, Sendable {
  /// The occupied bins in the order of their values.
  private(set) var bins: [Bin] = []
  /// The finite values.
  package private(set) var count = 0
  /// Whether every value is exactly the one that its bin represents.
  package private(set) var isExact = true

  /// Values that share their upper sixteen bits.
  struct Bin: Hashable, Sendable {
    /// The upper half of the values, turned so that it counts upwards with them; -0 is 0.
    let key: Int32
    var count: Int
  }

  /// The largest relative error of results.
  package var relativeError: Double { isExact ? 0 : 0x1p-8 }

  /// No value.
  package init() {}

  /// - Parameters:
  ///   - bins: In key order, distinct and not empty.
  init(_ bins: [Bin], isExact: Bool) {
    self.bins = bins
    self.isExact = isExact
    count = bins.reduce(0) { $0 + $1.count }
  }

  /// Adds the values of another.
  ///
  /// - Complexity: O(occupied bins of both).
  package mutating func merge(_ other: ValueHistogram) {
    guard other.count > 0 else { return }
    var merged: [Bin] = []
    merged.reserveCapacity(max(bins.count, other.bins.count) + 64)
    var theirs = other.bins[...]
    for var bin in bins {
      while let next = theirs.first, next.key < bin.key {
        merged.append(next)
        theirs.removeFirst()
      }
      if let next = theirs.first, next.key == bin.key {
        bin.count += next.count
        theirs.removeFirst()
      }
      merged.append(bin)
    }
    merged += theirs
    bins = merged
    count += other.count
    isExact = isExact && other.isExact
  }
}

// MARK: - Percentiles

extension ValueHistogram {
  /// What percentiles are taken of.
  package enum Measure: Sendable {
    /// The values: both tails, and the middle.
    case values
    /// The magnitudes: what a symmetric quantiser has to hold, and what it may clip.
    case magnitudes
  }

  /// The smallest value that at least this share of all values does not exceed (the *nearest rank*, NumPy's
  /// `inverted_cdf`), off by at most ``relativeError``.
  ///
  /// - Parameter percent: From 0 to 100, in thousandths; other values are rounded and clamped.
  /// - Returns: `nil` if there is no value.
  /// - Complexity: O(occupied bins).
  package func percentile(_ percent: Double, of measure: Measure = .values) -> Double? {
    percentiles([percent], of: measure)?.first
  }

  /// Several percentiles at once; see ``percentile(_:of:)``.
  ///
  /// - Complexity: O(occupied bins × percentiles).
  package func percentiles(_ percents: [Double], of measure: Measure = .values) -> [Double]? {
    guard count > 0 else { return nil }
    let ordered = measure == .values ? bins : magnitudes
    return percents.map { percent in
      let thousandths = Int((min(100, max(0, percent)) * 1000).rounded())
      let (product, remainder) = (count / 100_000 * thousandths, count % 100_000 * thousandths)
      let rank = max(1, product + (remainder + 99_999) / 100_000)
      var seen = 0
      for bin in ordered {
        seen += bin.count
        if seen >= rank { return value(of: bin) }
      }
      return ordered.last.map(value(of:)) ?? 0
    }
  }

  /// The bins of the magnitudes.
  private var magnitudes: [Bin] {
    let negative = bins.prefix { $0.key < 0 }.reversed().map { Bin(key: -$0.key, count: $0.count) }
    var all = ValueHistogram(Array(bins.dropFirst(negative.count)), isExact: isExact)
    all.merge(ValueHistogram(negative, isExact: isExact))
    return all.bins
  }

  /// The value that a bin represents.
  private func value(of bin: Bin) -> Double {
    isExact || bin.key == 0 ? bin.innerEdge : (bin.innerEdge + bin.outerEdge) / 2
  }
}

// MARK: - Equal bins

extension ValueHistogram {
  /// Counts between two limits.
  package struct Rebinned: Hashable, Sendable {
    /// In bins of equal width, starting at the lower limit.
    package let counts: [Int]
    /// The values below the lower limit.
    package let below: Int
    /// The values above the upper limit.
    package let above: Int
  }

  /// The counts in bins of equal width between two limits, for drawing.
  ///
  /// The values in a bin are treated as spread evenly over it, so that the counts are smooth even if the new bins are
  /// hardly wider; all counts and ``Rebinned/below`` and ``Rebinned/above`` add up to ``count``. A bin that contains
  /// a limit counts as inside. If the limits are equal, everything inside is in the first bin.
  ///
  /// - Parameters:
  ///   - low: The lower limit, finite.
  ///   - high: The upper limit, finite and not below the lower.
  ///   - binCount: At least 1.
  /// - Complexity: O(occupied bins + `binCount`).
  package func counts(from low: Double, to high: Double, bins binCount: Int) -> Rebinned {
    precondition(low <= high && low.isFinite && high.isFinite && binCount > 0, "limits out of order")
    // Halves, because the difference of the largest and the smallest F64 overflows.
    let scale = Double(binCount) / (high / 2 - low / 2) / 2
    func position(_ value: Double) -> Double {
      high > low ? min(Double(binCount), max(0, (value / 2 - low / 2) * 2 * scale)) : 0
    }
    var shares = [Double](repeating: 0, count: binCount)
    var (below, above, inside) = (0, 0, 0)
    for bin in bins {
      let (lower, upper) = extent(of: bin)
      if upper < low || upper == low && lower < upper && bin.key > 0 {
        below += bin.count
        continue
      }
      if lower > high || lower == high && lower < upper && bin.key < 0 {
        above += bin.count
        continue
      }
      inside += bin.count
      let (start, end) = (position(lower), position(upper))
      let (first, last) = (min(binCount - 1, Int(start)), min(binCount - 1, Int(end)))
      guard last > first else {
        shares[first] += Double(bin.count)
        continue
      }
      for index in first...last {
        let overlap = min(end, Double(index + 1)) - max(start, Double(index))
        shares[index] += Double(bin.count) * overlap / (end - start)
      }
    }
    var counts: [Int] = []
    var (sum, done) = (0.0, 0)
    for share in shares {
      // Sums are rounded instead of shares: nothing is lost or counted twice.
      sum += share
      let next = max(done, min(inside, Int(sum.rounded())))
      counts.append(next - done)
      done = next
    }
    counts[binCount - 1] += inside - done
    return Rebinned(counts: counts, below: below, above: above)
  }

  /// The range of values that a bin represents, the smaller one first.
  private func extent(of bin: Bin) -> (lower: Double, upper: Double) {
    guard bin.key != 0 else { return (0, 0) }
    let (inner, outer) = (bin.innerEdge, bin.outerEdge)
    guard isExact else { return (min(inner, outer), max(inner, outer)) }
    // A BF16 represents all values nearer to it than to the next.
    let half = abs(outer - inner) / 2
    return (inner - half, inner + half)
  }
}

extension ValueHistogram.Bin {
  /// The end of its range nearer to zero: a BF16.
  var innerEdge: Double { edge(Int(key.magnitude)) }

  /// The end of its range further from zero, exclusive.
  var outerEdge: Double { edge(Int(key.magnitude) + 1) }

  private func edge(_ upperHalf: Int) -> Double {
    let magnitude = upperHalf < 0x7F80 ? Double(Float(bitPattern: UInt32(upperHalf) << 16)) : 0x1p128
    return key < 0 ? -magnitude : magnitude
  }
}
