internal import CBlockKernels
public import TensorFormats

/// The largest magnitudes of rows, directly from the bytes of a file: the basis for the scale of a matrix.
public enum LargestMagnitude {
  /// Finds the largest magnitude of each row.
  ///
  /// - Parameters:
  ///   - elements: Rows of elements.
  ///   - type: F32 or BF16. (For others, decode first.)
  ///   - magnitudes: Receives one number per row: infinity where the row has one but no NaN, and a NaN where it has
  ///     any, so that a test of the result tests the row.
  ///   - tier: The kernels to use.
  /// - Throws: `.unsupported` for other types, `.malformed` if the bytes are not a whole number of elements, or not the
  ///   same number for every row.
  /// - Complexity: O(*n*), at memory speed; allocates nothing.
  public static func rows(
    _ elements: RawSpan, type: ElementType, into magnitudes: inout MutableSpan<Float>,
    tier: KernelTier = .active
  ) throws(CheckpointError) {
    guard type == .f32 || type == .bf16 else {
      throw CheckpointError(
        .unsupported, "cannot find the largest magnitude of \(type) elements without decoding them")
    }
    let rows = magnitudes.count
    let bytes = type.block.bytes
    guard rows > 0 ? elements.byteCount % (rows * bytes) == 0 : elements.byteCount == 0 else {
      throw CheckpointError(
        .malformed, "\(elements.byteCount) bytes are not \(rows) rows of equally many \(type) elements")
    }
    guard rows > 0 else { return }
    let columns = elements.byteCount / rows / bytes
    unsafe elements.withUnsafeBytes { from in
      guard let from = unsafe from.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
      for row in 0..<rows {
        let start = unsafe from + row * columns * bytes
        magnitudes[row] =
          type == .f32
          ? unsafe cbk_amax_f32(tier.kernelValue, start, columns)
          : unsafe cbk_amax_bf16(tier.kernelValue, start, columns)
      }
    }
  }

  /// The largest magnitude of all elements; 0 for none. NaN and infinity come out as from
  /// ``rows(_:type:into:tier:)``.
  ///
  /// - Throws: As ``rows(_:type:into:tier:)``.
  public static func of(
    _ elements: RawSpan, type: ElementType, tier: KernelTier = .active
  ) throws(CheckpointError) -> Float {
    var magnitude: [Float] = [0]
    var span = magnitude.mutableSpan
    try rows(elements, type: type, into: &span, tier: tier)
    return magnitude[0]
  }

  /// The largest magnitude of numbers in memory; NaN and infinity as above.
  static func of(_ values: Span<Float>, tier: KernelTier) -> Float {
    unsafe values.withUnsafeBytes {
      guard let from = unsafe $0.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return 0 }
      return unsafe cbk_amax_f32(tier.kernelValue, from, values.count)
    }
  }
}
