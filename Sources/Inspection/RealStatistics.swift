/// Running figures of 32-bit values, eight at a time.
///
/// Sums are kept in double precision in eight lanes. The lane of a value depends only on its position, and the
/// lanes are added in a fixed order at the end, so the result is the same on every machine.
struct RealStatistics {
  private var sum = SIMD8<Double>.zero
  private var squares = SIMD8<Double>.zero
  private var lowest = SIMD8<Float>(repeating: .infinity)
  private var highest = SIMD8<Float>(repeating: -.infinity)
  private var zeros = 0
  private var nan = 0
  private var infinite = 0
  private var count = 0

  /// Bytes that are processed together: few enough that redoing them one by one costs little.
  private static let groupByteCount = 2048

  /// The figures so far.
  var result: ValueStatistics {
    var result = ValueStatistics()
    result.count = count
    result.zeros = zeros
    result.nan = nan
    result.infinite = infinite
    for lane in 0..<8 {
      result.sum += sum[lane]
      result.sumOfSquares += squares[lane]
    }
    if result.finiteCount > 0 {
      // Adding zero turns -0 into 0, because which of the two comes out is arbitrary.
      result.minimum = .real(Double(lowest.min()) + 0)
      result.maximum = .real(Double(highest.max()) + 0)
    }
    return result
  }

  // MARK: - Taking values in

  /// Takes in little-endian F32.
  ///
  /// - Precondition: `bytes` is a whole number of values.
  mutating func add(float32 bytes: RawSpan) {
    addGroups(bytes, valueByteCount: 4) { group, lanes in
      var zeros = SIMD8<Int32>.zero
      for offset in stride(from: 0, to: group.byteCount, by: 32) {
        lanes.take(unsafe group.unsafeLoadUnaligned(fromByteOffset: offset, as: SIMD8<Float>.self), &zeros)
      }
      lanes.zeros += Int(zeros.wrappedSum())
    } value: {
      unsafe $0.unsafeLoadUnaligned(fromByteOffset: $1, as: Float.self)
    }
  }

  /// Takes in little-endian BF16, which is the upper half of F32.
  ///
  /// - Precondition: `bytes` is a whole number of values.
  mutating func add(bfloat16 bytes: RawSpan) {
    addGroups(bytes, valueByteCount: 2) { group, lanes in
      var zeros = SIMD8<Int32>.zero
      for offset in stride(from: 0, to: group.byteCount, by: 32) {
        // Sixteen values as eight pairs: no widening is needed to make floats of either half.
        let pairs = unsafe group.unsafeLoadUnaligned(fromByteOffset: offset, as: SIMD8<UInt32>.self)
        lanes.take(unsafe unsafeBitCast(pairs &<< 16, to: SIMD8<Float>.self), &zeros)
        lanes.take(unsafe unsafeBitCast(pairs & 0xFFFF_0000, to: SIMD8<Float>.self), &zeros)
      }
      lanes.zeros += Int(zeros.wrappedSum())
    } value: {
      Float(bitPattern: UInt32(unsafe $0.unsafeLoadUnaligned(fromByteOffset: $1, as: UInt16.self)) << 16)
    }
  }

  /// Goes through `bytes` in groups. A non-finite value makes the sums NaN or infinite for good; the group is then
  /// redone value by value, from the state before it.
  @inline(__always)
  private mutating func addGroups(
    _ bytes: RawSpan, valueByteCount: Int, fast: (RawSpan, inout RealStatistics) -> Void,
    value: (RawSpan, Int) -> Float
  ) {
    var start = 0
    while start < bytes.byteCount {
      let length = min(Self.groupByteCount, bytes.byteCount - start)
      let group = bytes.extracting(start..<(start + length))
      start += length
      if length % 32 == 0 {
        var next = self
        fast(group, &next)
        if next.sum.sum().isFinite {
          next.count += length / valueByteCount
          self = next
          continue
        }
      }
      for (index, offset) in stride(from: 0, to: length, by: valueByteCount).enumerated() {
        take(value(group, offset), lane: index % 8)
      }
    }
  }

  @inline(__always)
  private mutating func take(_ values: SIMD8<Float>, _ zeros: inout SIMD8<Int32>) {
    let wide = SIMD8<Double>(
      Double(values[0]), Double(values[1]), Double(values[2]), Double(values[3]), Double(values[4]),
      Double(values[5]), Double(values[6]), Double(values[7]))
    sum += wide
    squares += wide * wide
    lowest.replace(with: values, where: values .< lowest)
    highest.replace(with: values, where: values .> highest)
    zeros &+= SIMD8<Int32>.zero.replacing(with: 1, where: values .== 0)
  }

  private mutating func take(_ value: Float, lane: Int) {
    count += 1
    guard value.isFinite else {
      if value.isNaN { nan += 1 } else { infinite += 1 }
      return
    }
    if value == 0 { zeros += 1 }
    sum[lane] += Double(value)
    squares[lane] += Double(value) * Double(value)
    lowest[lane] = min(lowest[lane], value)
    highest[lane] = max(highest[lane], value)
  }
}
