internal import CBlockKernels

/// Looks for NaN and infinity.
public enum FiniteCheck {
  /// The index of the first NaN or infinity; `nil` if there is none.
  ///
  /// - Complexity: O(*n*), at memory speed.
  public static func firstNonFinite(_ values: Span<Float>, tier: KernelTier = .active) -> Int? {
    let index = unsafe values.withUnsafeBufferPointer { values in
      guard let from = values.baseAddress else { return -1 }
      return unsafe cbk_first_nonfinite(tier.kernelValue, from, values.count)
    }
    return index < 0 ? nil : index
  }
}
