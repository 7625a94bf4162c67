/// Synthetic weights, the same in every run.
struct Weights {
  /// Values in BF16, as bytes.
  var bytes: [UInt8]
  /// The same as F32.
  var values: [Float]

  /// Like the linear layers of a language model: Gaussian, standard deviation 0.02.
  static func gaussian(_ count: Int) -> Weights {
    var random = Random(state: 1)
    return Weights((0..<count).map { _ in random.gaussian() * 0.02 })
  }

  /// Student's t with three degrees of freedom: outliers of 20 standard deviations and more.
  static func heavyTailed(_ count: Int) -> Weights {
    var random = Random(state: 2)
    return Weights(
      (0..<count).map { _ in
        let squares = (0..<3).reduce(Float(0)) { sum, _ in
          let value = random.gaussian()
          return sum + value * value
        }
        return random.gaussian() / (squares / 3).squareRoot() * 0.02
      })
  }

  /// Importance weights, one per column.
  static func importance(_ columns: Int) -> [Float] {
    var random = Random(state: 3)
    return (0..<columns).map { _ in
      let value = random.gaussian()
      return value * value + 0.01
    }
  }

  private init(_ values: [Float]) {
    self.values = values.map { Float(bitPattern: $0.bitPattern & 0xFFFF_0000) }
    self.bytes = self.values.flatMap { value -> [UInt8] in
      [UInt8(truncatingIfNeeded: value.bitPattern >> 16), UInt8(truncatingIfNeeded: value.bitPattern >> 24)]
    }
  }
}

/// SplitMix64, and Gaussian values as sums of twelve uniform ones.
private struct Random {
  var state: UInt64

  mutating func uniform() -> Float {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = (state ^ (state >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return Float((mixed ^ (mixed >> 31)) >> 40) * 0x1p-24
  }

  mutating func gaussian() -> Float { (0..<12).reduce(-6) { sum, _ in sum + uniform() } }
}
