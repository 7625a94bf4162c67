internal import TensorFormats

/// Figures of integers, booleans and 64-bit floats: exact extremes, sums in double precision.
enum ScalarStatistics {
  /// The figures of little-endian integers of one type.
  ///
  /// - Precondition: `bytes` is a whole number of them.
  static func integers<T: FixedWidthInteger & BitwiseCopyable>(
    _ type: T.Type, _ bytes: RawSpan, _ counter: inout ValueCounter?
  ) -> ValueStatistics {
    var result = ValueStatistics()
    let width = MemoryLayout<T>.size
    result.count = bytes.byteCount / width
    guard result.count > 0 else { return result }
    var lowest = T.max
    var highest = T.min
    for offset in stride(from: 0, to: bytes.byteCount, by: width) {
      let value = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: T.self)
      lowest = min(lowest, value)
      highest = max(highest, value)
      if value == 0 { result.zeros += 1 }
      result.sum += Double(value)
      result.sumOfSquares += Double(value) * Double(value)
      counter?.add(Double(value))
    }
    result.minimum = .integer(Int128(lowest))
    result.maximum = .integer(Int128(highest))
    return result
  }

  /// The figures of little-endian F64.
  ///
  /// - Precondition: `bytes` is a whole number of them.
  static func doubles(_ bytes: RawSpan, _ counter: inout ValueCounter?) -> ValueStatistics {
    var result = ValueStatistics()
    result.count = bytes.byteCount / 8
    var lowest = Double.infinity
    var highest = -Double.infinity
    for offset in stride(from: 0, to: bytes.byteCount, by: 8) {
      let value = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: Double.self)
      guard value.isFinite else {
        if value.isNaN { result.nan += 1 } else { result.infinite += 1 }
        continue
      }
      lowest = min(lowest, value)
      highest = max(highest, value)
      if value == 0 { result.zeros += 1 }
      result.sum += value
      result.sumOfSquares += value * value
      counter?.add(value)
    }
    if result.finiteCount > 0 {
      result.minimum = .real(lowest)
      result.maximum = .real(highest)
    }
    return result
  }
}

/// How often each byte occurs, which is all the information about a one-byte type.
struct ByteHistogram {
  private var counts: [Int]

  /// Counts the bytes.
  init(_ bytes: RawSpan) {
    // Four tables, so that a run of equal bytes does not stall on its own previous addition.
    var counts = [Int](repeating: 0, count: 4 * 256)
    let whole = bytes.byteCount / 8 * 8
    for offset in stride(from: 0, to: whole, by: 8) {
      let eight = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self)
      for index in 0..<8 {
        counts[(index & 3) << 8 | Int(truncatingIfNeeded: eight >> UInt64(index * 8)) & 0xFF] += 1
      }
    }
    for offset in whole..<bytes.byteCount {
      counts[Int(unsafe bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self))] += 1
    }
    self.counts = (0..<256).map { counts[$0] + counts[256 + $0] + counts[512 + $0] + counts[768 + $0] }
  }

  /// The figures, when byte *b* stands for `values[b]`.
  func statistics(of values: [Float], _ counter: inout ValueCounter?) -> ValueStatistics {
    statistics(&counter) {
      values[$0].isFinite ? (Double(values[$0]), .real(Double(values[$0]) + 0)) : nil
    } isNaN: {
      values[$0].isNaN
    }
  }

  /// The figures, when the bytes are integers.
  func statistics(signed: Bool, _ counter: inout ValueCounter?) -> ValueStatistics {
    statistics(&counter) { byte in
      let value = signed ? Int(Int8(truncatingIfNeeded: byte)) : byte
      return (Double(value), .integer(Int128(value)))
    } isNaN: { _ in
      false
    }
  }

  private func statistics(
    _ counter: inout ValueCounter?, value: (Int) -> (Double, Extreme)?, isNaN: (Int) -> Bool
  ) -> ValueStatistics {
    var result = ValueStatistics()
    for (byte, count) in counts.enumerated() where count > 0 {
      var part = ValueStatistics()
      part.count = count
      if let (number, extreme) = value(byte) {
        part.minimum = extreme
        part.maximum = extreme
        part.sum = number * Double(count)
        part.sumOfSquares = number * number * Double(count)
        if number == 0 { part.zeros = count }
        counter?.add(number, times: count)
      } else if isNaN(byte) {
        part.nan = count
      } else {
        part.infinite = count
      }
      result.merge(part)
    }
    return result
  }
}
