/// The figures of a set of values. Minimum, maximum, mean and RMS are those of the finite ones.
public struct ValueStatistics: Hashable, Sendable {
  /// All values, finite or not.
  public internal(set) var count = 0
  /// Values equal to zero, of either sign.
  public internal(set) var zeros = 0
  /// Values that are not a number.
  public internal(set) var nan = 0
  /// Infinite values.
  public internal(set) var infinite = 0
  /// The smallest finite value; `nil` if there is none.
  public internal(set) var minimum: Extreme?
  /// The largest finite value; `nil` if there is none.
  public internal(set) var maximum: Extreme?
  var sum = 0.0
  var sumOfSquares = 0.0

  /// The finite values.
  var finiteCount: Int { count - nan - infinite }

  /// The mean of the finite values; `nil` if there is none.
  public var mean: Double? { finiteCount > 0 ? sum / Double(finiteCount) : nil }

  /// The root of the mean square of the finite values; `nil` if there is none.
  public var rms: Double? { finiteCount > 0 ? (sumOfSquares / Double(finiteCount)).squareRoot() : nil }

  /// Adds the figures of further values. Only the last bits of the result depend on the order of calls, which here
  /// is always that of the file.
  package mutating func merge(_ other: ValueStatistics) {
    count += other.count
    zeros += other.zeros
    nan += other.nan
    infinite += other.infinite
    if let candidate = other.minimum, minimum.map({ candidate < $0 }) ?? true { minimum = candidate }
    if let candidate = other.maximum, maximum.map({ $0 < candidate }) ?? true { maximum = candidate }
    sum += other.sum
    sumOfSquares += other.sumOfSquares
  }
}

/// A smallest or largest value, exact for integers of any width.
public enum Extreme: Hashable, Sendable, Comparable {
  case real(Double)
  case integer(Int128)

  /// The order of the values; a tensor's values are all of one kind.
  public static func < (a: Extreme, b: Extreme) -> Bool {
    switch (a, b) {
    case (.integer(let a), .integer(let b)): a < b
    case (.real(let a), .real(let b)): a < b
    case (.integer(let a), .real(let b)): Double(a) < b
    case (.real(let a), .integer(let b)): a < Double(b)
    }
  }
}

extension Extreme: Encodable {
  /// Encodes the number.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .real(let value): try container.encode(value)
    case .integer(let value):
      if let small = Int64(exactly: value) {
        try container.encode(small)
      } else {
        try container.encode(UInt64(clamping: value))
      }
    }
  }
}
