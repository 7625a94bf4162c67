internal import CBlockKernels

/// Splits floats into byte planes, so that what can be compressed (exponents) is separate from what cannot
/// (mantissas), and joins them again.
///
/// Two-byte elements have two planes, four-byte elements four, each with one byte of every element:
///
///     plane 0   the eight bits below the sign: of BF16 and F32 the exponent
///     plane 1   the sign above the seven bits that follow
///     plane 2   the next byte (four bytes only)
///     plane 3   the least significant byte (four bytes only)
///
/// Elements are little-endian. Bytes after the last whole element follow the planes unchanged.
public enum BytePlanes {
  /// Splits elements into planes.
  ///
  /// - Parameters:
  ///   - elements: Whole elements.
  ///   - width: The bytes of an element, 2 or 4.
  ///   - planes: As many bytes as `elements`.
  ///   - tier: Which kernels to use.
  /// - Precondition: The two do not overlap.
  /// - Complexity: O(*n*), at memory speed.
  public static func split(
    _ elements: RawSpan, width: Int, into planes: inout MutableRawSpan, tier: KernelTier = .active
  ) {
    unsafe move(elements, width, into: &planes) { from, count, to in
      unsafe cbk_split_planes(tier.kernelValue, from, count, width, to)
    }
  }

  /// Joins what ``split(_:width:into:tier:)`` has split.
  ///
  /// - Precondition: As there.
  /// - Complexity: O(*n*), at memory speed.
  public static func join(
    _ planes: RawSpan, width: Int, into elements: inout MutableRawSpan, tier: KernelTier = .active
  ) {
    unsafe move(planes, width, into: &elements) { from, count, to in
      unsafe cbk_join_planes(tier.kernelValue, from, count, width, to)
    }
  }

  /// Lets a kernel move all whole elements, and copies the rest.
  private static func move(
    _ source: RawSpan, _ width: Int, into target: inout MutableRawSpan,
    _ kernel: (UnsafePointer<UInt8>, Int, UnsafeMutablePointer<UInt8>) -> Void
  ) {
    precondition(width == 2 || width == 4, "elements have two or four bytes")
    precondition(source.byteCount == target.byteCount, "planes have the bytes of their elements")
    let count = source.byteCount / width
    unsafe source.withUnsafeBytes { source in
      unsafe target.withUnsafeMutableBytes { target in
        guard let from = source.baseAddress, let to = target.baseAddress else { return }
        unsafe kernel(from.assumingMemoryBound(to: UInt8.self), count, to.assumingMemoryBound(to: UInt8.self))
        for index in count * width..<source.count { unsafe target[index] = source[index] }
      }
    }
  }
}

// MARK: - The definition

extension BytePlanes {
  /// ``split(_:width:into:tier:)``, element by element.
  package static func splitReference(_ elements: [UInt8], width: Int) -> [UInt8] {
    let count = elements.count / width
    var planes = elements
    for index in 0..<count {
      // From the most significant byte on.
      let bytes = elements[index * width..<(index + 1) * width].reversed().map { $0 }
      planes[index] = bytes[0] << 1 | bytes[1] >> 7
      planes[count + index] = bytes[0] & 0x80 | bytes[1] & 0x7F
      for plane in 2..<max(2, width) { planes[plane * count + index] = bytes[plane] }
    }
    return planes
  }

  /// ``join(_:width:into:tier:)``, element by element.
  package static func joinReference(_ planes: [UInt8], width: Int) -> [UInt8] {
    let count = planes.count / width
    var elements = planes
    for index in 0..<count {
      let (high, low) = (planes[index], planes[count + index])
      var bytes = [low & 0x80 | high >> 1, high << 7 | low & 0x7F]
      for plane in 2..<max(2, width) { bytes.append(planes[plane * count + index]) }
      for (place, byte) in bytes.reversed().enumerated() { elements[index * width + place] = byte }
    }
    return elements
  }
}
