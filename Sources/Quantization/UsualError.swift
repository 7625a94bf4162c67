public import TensorFormats

extension ElementType {
  /// The root mean square error that this format makes of normally distributed weights (standard deviation 0.02), as a share of
  /// their root mean square; `nil` for formats without a loss, those that
  /// are not written, and those whose loss depends on the importance matrix that they need.
  ///
  /// Measured with `codec-bench`; `UsualErrorTests` measures again. What is beside it in a real checkpoint has outliers: the same
  /// weights with the tails of Student's t of three degrees of freedom lose about a third more (`Manuals/formats.md`).
  public var errorOnNormalWeights: Double? {
    switch self {
    case .f8E4M3: 0.0332
    case .f8E5M2: 0.0527
    case .q4_0: 0.0847
    case .q4_1: 0.0774
    case .q5_0: 0.0421
    case .q5_1: 0.0375
    case .q8_0: 0.0053
    case .q2K: 0.2944
    case .q3K: 0.1492
    case .q4K: 0.0706
    case .q5K: 0.0357
    case .q6K: 0.0176
    case .iq2S: 0.2625
    case .iq3XXS: 0.2114
    case .iq3S: 0.1643
    case .iq4NL: 0.0754
    case .iq4XS: 0.0760
    case .mxfp4: 0.1131
    case .nvfp4: 0.1037
    default: nil
    }
  }
}
