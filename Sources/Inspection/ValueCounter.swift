/// Counts values for a ``ValueHistogram``; reused by one thread.
///
/// Memory: 512 KiB. A value costs about a nanosecond.
package struct ValueCounter: Sendable {
  /// How often each upper half of an F32 has occurred, in two alternating columns: a run of equal values does not
  /// stall on its own previous addition.
  private var counts = [UInt32](repeating: 0, count: 2 << 16)
  /// The upper halves of the values while there are few: sorting them is cheaper than scanning all counts.
  private var few: [UInt16] = []
  private var isCounting = false
  /// The bits set in any lower half: if none, the upper halves are exact.
  private var lowerBits: UInt32 = 0

  private static let fewest = 2048

  /// Nothing counted yet.
  package init() { few.reserveCapacity(Self.fewest) }

  // MARK: - Taking values in

  /// Counts little-endian F32.
  ///
  /// - Precondition: `bytes` is a whole number of values; there are fewer than 2³² of them between two calls of ``take()``.
  package mutating func add(float32 bytes: RawSpan) {
    let count = bytes.byteCount / 4
    if countsOneByOne(count) {
      for index in 0..<count {
        let bits = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: index * 4, as: UInt32.self)
        lowerBits |= bits & 0xFFFF
        few.append(UInt16(truncatingIfNeeded: bits >> 16))
      }
      return
    }
    var bits: UInt32 = 0
    var table = counts.mutableSpan
    for index in 0..<count {
      let value = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: index * 4, as: UInt32.self)
      bits |= value
      table[Int(value >> 16) << 1 | index & 1] &+= 1
    }
    lowerBits |= bits & 0xFFFF
  }

  /// Counts little-endian BF16.
  ///
  /// - Precondition: As for ``add(float32:)``.
  package mutating func add(bfloat16 bytes: RawSpan) {
    let count = bytes.byteCount / 2
    if countsOneByOne(count) {
      for index in 0..<count {
        few.append(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: index * 2, as: UInt16.self))
      }
      return
    }
    var table = counts.mutableSpan
    for index in 0..<count {
      let half = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: index * 2, as: UInt16.self)
      table[Int(half) << 1 | index & 1] &+= 1
    }
  }

  /// Counts a value of a wider type, rounded to F32 and clamped to the largest F32.
  ///
  /// - Precondition: As for ``add(float32:)``.
  package mutating func add(_ value: Double, times: Int = 1) {
    let largest = Double(Float.greatestFiniteMagnitude)
    let narrow = value.isFinite ? Float(min(largest, max(-largest, value))) : .nan
    // A rounded value is not exactly the one that its bin represents.
    lowerBits |= Double(narrow) == value ? narrow.bitPattern & 0xFFFF : 1
    let half = UInt16(truncatingIfNeeded: narrow.bitPattern >> 16)
    if countsOneByOne(times) {
      for _ in 0..<times { few.append(half) }
    } else {
      counts[Int(half) << 1] += UInt32(truncatingIfNeeded: times)
    }
  }

  /// Whether this many more values fit among the few; if not, those are moved to the counts.
  private mutating func countsOneByOne(_ more: Int) -> Bool {
    if isCounting { return false }
    if few.count + more <= Self.fewest { return true }
    for half in few { counts[Int(half) << 1] += 1 }
    few.removeAll(keepingCapacity: true)
    isCounting = true
    return false
  }

  // MARK: - Results

  /// The histogram of what has been counted since the last call. NaN and infinities are not in it.
  package mutating func take() -> ValueHistogram {
    var bins: [ValueHistogram.Bin] = []
    func append(_ half: UInt16, _ count: Int) {
      guard half & 0x7F80 != 0x7F80 else { return }
      let magnitude = Int32(half & 0x7FFF)
      let key = half & 0x8000 == 0 ? magnitude : -magnitude
      if let last = bins.last, last.key == key {
        bins[bins.count - 1].count += count
      } else {
        bins.append(.init(key: key, count: count))
      }
    }
    if isCounting {
      // Negative values from the largest magnitude down, then the others.
      for index in 0..<0x1_0000 {
        let half = index < 0x8000 ? 0xFFFF - index : index - 0x8000
        let count = Int(counts[half << 1]) + Int(counts[half << 1 | 1])
        if count > 0 { append(UInt16(half), count) }
      }
      for index in counts.indices { counts[index] = 0 }
    } else {
      few.sort { ($0 ^ ($0 & 0x8000 == 0 ? 0x8000 : 0xFFFF)) < ($1 ^ ($1 & 0x8000 == 0 ? 0x8000 : 0xFFFF)) }
      for half in few { append(half, 1) }
    }
    defer {
      few.removeAll(keepingCapacity: true)
      isCounting = false
      lowerBits = 0
    }
    return ValueHistogram(bins, isExact: lowerBits == 0)
  }
}
