extension RowScheme {
  /// The scale of a matrix, as it is stored, from its largest magnitude; 1 where the scheme has none.
  ///
  /// compressed-tensors: 2688 / amax, computed as its library does for BF16 weights, BF16(BF16(1 / amax) · 2688):
  /// which takes the reciprocal first. ModelOpt: amax / 2688 in F32. (2688 = 448 · 6: the largest scale times the
  /// largest code.) If that is not a positive finite number (amax is 0, or nearly), it is 1.
  ///
  /// Matrices that an engine fuses, such as the gate and up projections, must share it: give the larger amax.
  ///
  /// - Parameter amax: Finite, from 0 on.
  public func matrixScale(amax: Float) -> Float {
    let scale: Float =
      switch rule.scales {
      case .dividedE4M3: ((1 / max(amax, .leastNormalMagnitude)).roundedToBF16 * 2688).roundedToBF16
      case .multipliedE4M3: amax / 2688
      case .f32, .bf16, .e8m0: 1
      }
    return scale > 0 && scale.isFinite ? scale : 1
  }

  /// The factor for the product of a code and its group's scale, to F32's precision, given the stored scale of the
  /// matrix.
  ///
  /// Decoding takes the group's scale first (``decode(codes:scales:columns:matrixScale:into:tier:)``), which can
  /// differ from using this in the last bit.
  public func matrixMultiplier(stored scale: Float) -> Float {
    switch rule.scales {
    case .dividedE4M3: 1 / scale
    case .multipliedE4M3: scale
    case .f32, .bf16, .e8m0: 1
    }
  }
}
