import CheckpointTesting
import Quantization

/// Rows that exercise an encoder's edge cases, one kind per case. Every value is finite.
enum KQuantRows: String, CaseIterable {
  case gaussian, bfloat, heavyTailed, mixedMagnitudes
  case allEqual, allNegativeEqual, zeros, negativeZeros, sparse, signs
  case positiveOnly, negativeOnly, outlier, ties, ramp
  case outlierColumns, subnormal, nearTiny, overflowingHalf, hugeBlocks, anyBits

  /// `count` values, a multiple of 16.
  func values(_ count: Int, using generator: inout SeededGenerator) -> [Float] {
    var values: [Float] = []
    values.reserveCapacity(count)
    while values.count < count {
      let exponent = Int.random(in: -24...16, using: &generator)
      for position in 0..<16 {
        values.append(value(at: position, in: values.count / 16, exponent: exponent, using: &generator))
      }
    }
    return values
  }

  private func value(
    at position: Int, in block: Int, exponent: Int, using generator: inout SeededGenerator
  ) -> Float {
    let normal = Self.gaussian(using: &generator)
    switch self {
    case .gaussian: return normal * 0.02
    case .bfloat: return Float(bitPattern: (normal * 0.02).bitPattern & 0xffff_0000)
    case .heavyTailed: return normal * normal * normal * 0.01
    case .mixedMagnitudes: return Self.scaled(normal, exponent)
    case .allEqual: return 0.37
    case .allNegativeEqual: return -3
    case .zeros: return 0
    case .negativeZeros: return -0.0
    case .sparse: return Bool.random(using: &generator) && normal > 1 ? normal : 0
    case .signs: return normal < 0 ? -1 : 1
    case .positiveOnly: return abs(normal)
    case .negativeOnly: return -abs(normal)
    case .outlier: return position == block % 16 ? 100 : normal * 0.001
    // With KQuantImportance.ignoringOutliers, only rounding decides the least squares.
    case .outlierColumns:
      let usual = -0.5 - Float(block % 61) / 61
      return position == 5 ? Self.scaled(usual, (exponent + 24) / 2) : usual
    case .ties: return Float(Int.random(in: -8...8, using: &generator)) * 0.5
    case .ramp: return Float(position + block % 16 * 16) / 16 - 8
    case .subnormal: return normal * 0x1p-140
    case .nearTiny: return normal * 1e-15
    case .overflowingHalf: return normal * 4e6
    case .hugeBlocks: return Self.scaled(normal, exponent * 5)
    case .anyBits:
      let bits = UInt32.random(in: .min ... .max, using: &generator)
      let value = Float(bitPattern: bits)
      return value.isFinite ? value : Float(bitPattern: bits & 0x807f_ffff)
    }
  }

  private static func scaled(_ value: Float, _ exponent: Int) -> Float {
    value * Float(sign: .plus, exponent: exponent, significand: 1)
  }

  /// Nearly normal: the sum of twelve uniform values.
  private static func gaussian(using generator: inout SeededGenerator) -> Float {
    var sum: Float = -6
    for _ in 0..<12 { sum += Float.random(in: 0..<1, using: &generator) }
    return sum
  }
}

/// Importance matrices that resemble real ones, and ones with zeros.
enum KQuantImportance: String, CaseIterable {
  case uniform, spread, withZeros, zeroBlocks, ignoringOutliers

  /// `count` non-negative weights.
  func values(_ count: Int, using generator: inout SeededGenerator) -> [Float] {
    (0..<count).map { index in
      let value = Float.random(in: 0..<1, using: &generator)
      return switch self {
      case .uniform: 1
      case .spread: value * value * value * value * 50
      case .withZeros: value < 0.3 ? 0 : value
      case .ignoringOutliers: index % 16 == 5 || value < 0.25 ? 0 : value
      case .zeroBlocks: index / 64 % 2 == 0 ? 0 : value
      }
    }
  }
}
