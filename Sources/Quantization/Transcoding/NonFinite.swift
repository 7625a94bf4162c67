public import TensorFormats

/// What to do with NaN and infinity in the values to be encoded.
public enum NonFinitePolicy: String, Hashable, Sendable {
  /// Report the first one as an error.
  case reject
  /// Keep them if the target can hold them, and report an error if it cannot.
  case pass
}

extension ElementType {
  /// Whether an element can be NaN.
  public var holdsNaN: Bool {
    switch self {
    case .f8E4M3, .f8E4M3FNUZ, .f8E5M2FNUZ: true
    default: holdsInfinity
    }
  }

  /// Whether an element can be infinite.
  public var holdsInfinity: Bool {
    switch self {
    case .f16, .bf16, .f32, .f64, .f8E5M2: true
    default: false
    }
  }

  /// Whether every finite value of this type is a value of `target` as well.
  ///
  /// Answers for the floating-point scalars; block formats are exact only in F32 and F64. F64 is exact only in itself.
  public func isExact(in target: ElementType) -> Bool {
    if self == target { return true }
    switch target {
    case .f64: return true
    case .f32: return self != .f64
    case .bf16: return isSmallScalar || self == .f8E8M0
    case .f16: return isSmallScalar
    default: return false
    }
  }

  /// The scalars of four to eight bits, scales excepted.
  private var isSmallScalar: Bool {
    switch self {
    case .f8E4M3, .f8E5M2, .f8E4M3FNUZ, .f8E5M2FNUZ, .f4, .f6E2M3, .f6E3M2: true
    default: false
    }
  }
}

extension NonFinitePolicy {
  /// Finds the first value that this policy does not allow in `target`.
  ///
  /// - Parameters:
  ///   - values: Elements of a matrix, `columns` to a row, from column `firstColumn` of row `firstRow` on.
  ///   - stride: How far apart rows are in `values`.
  /// - Returns: Whether there are NaN or infinities (which `target` can hold).
  /// - Throws: `.nonFinite`, naming the row and the column.
  func check(
    _ values: Span<Float>, firstRow: Int, firstColumn: Int, stride: Int, target: ElementType, tier: KernelTier
  ) throws(CheckpointError) -> Bool {
    guard let first = FiniteCheck.firstNonFinite(values, tier: tier) else { return false }
    for index in first..<values.count where !values[index].isFinite {
      let value = values[index]
      let fits = value.isNaN ? target.holdsNaN : target.holdsInfinity
      guard self == .reject || !fits else { continue }
      let row = firstRow + index / stride
      let column = firstColumn + index % stride
      let what = value.isNaN ? "NaN" : (value < 0 ? "-infinity" : "infinity")
      throw CheckpointError(
        .nonFinite,
        fits
          ? "the element in row \(row), column \(column) is \(what)"
          : "the element in row \(row), column \(column) is \(what), which \(target) cannot hold",
        // If the target can hold them, whoever chose this policy knows the other one.
        remedy: fits ? nil : "repair the checkpoint, or choose BF16, F16 or F32")
    }
    return true
  }
}
