/// Numbers with units, as used to describe hardware.
///
/// Prefixes are those of the SI (k, M, G, T, P, E: powers of 1000) and, for bytes, the binary ones (Ki, Mi, ...: powers
/// of 1024). `B` is a byte and `b` a bit, so that the case of a unit matters. A plain number is in the base unit.
public enum Quantity: Hashable, Sendable {
  /// `141 GB`, `80 GiB`.
  case bytes
  /// `3.35 TB/s`, `400 Gb/s`, `400 Gbps`: in bytes per second.
  case bytesPerSecond
  /// `1.98 PFLOP/s`, `989 TFLOPS`.
  case operationsPerSecond
  /// `50 ms`, `0.05 s`.
  case seconds

  private var suffixes: [(text: String, factor: Double)] {
    switch self {
    case .bytes: [("B", 1)]
    case .bytesPerSecond: [("B/s", 1), ("Bps", 1), ("bit/s", 0.125), ("b/s", 0.125), ("bps", 0.125)]
    case .operationsPerSecond: [("FLOP/s", 1), ("FLOPS", 1), ("OP/s", 1), ("OPS", 1)]
    case .seconds: [("s", 1)]
    }
  }

  /// An example of such a quantity, for messages.
  public var example: String {
    switch self {
    case .bytes: "141 GB"
    case .bytesPerSecond: "3.35 TB/s or 400 Gb/s"
    case .operationsPerSecond: "989 TFLOP/s"
    case .seconds: "50 ms"
    }
  }

  /// The factor of a prefix; `nil` if this unit has no such prefix.
  private func factor(of prefix: Substring) -> Double? {
    if self == .seconds {
      switch prefix {
      case "": return 1
      case "m": return 1e-3
      case "u", "µ": return 1e-6
      default: return nil
      }
    }
    guard let letter = prefix.first else { return 1 }
    let powers: [Character: Int] = ["k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6]
    guard let power = powers[letter] else { return nil }
    let base: Double
    switch prefix.dropFirst() {
    case "": base = 1000
    case "i" where self == .bytes || self == .bytesPerSecond: base = 1024
    default: return nil
    }
    return (0..<power).reduce(1) { product, _ in product * base }
  }

  /// Bounds for any hardware, which keep all calculations finite.
  public static let range = 1e-9...1e24

  /// Reads a quantity; `nil` for another unit, and outside ``range``.
  public func parse(_ text: String) -> Double? {
    let digits = text.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    var rest = text.dropFirst(digits.count)
    var number = digits
    // An exponent, `1.98e15`, not the prefix exa: a number follows.
    if let mark = rest.first, mark == "e" || mark == "E" {
      let exponent = rest.dropFirst().prefix { $0.isASCII && ($0.isNumber || $0 == "+" || $0 == "-") }
      if exponent.contains(where: \.isNumber) {
        number = text.prefix(digits.count + 1 + exponent.count)
        rest = text.dropFirst(number.count)
      }
    }
    guard let value = Double(number), value.isFinite else { return nil }
    rest = rest.drop { $0 == " " }
    guard !rest.isEmpty else { return Self.range.contains(value) ? value : nil }
    for (suffix, scale) in suffixes where rest.hasSuffix(suffix) {
      guard let factor = factor(of: rest.dropLast(suffix.count)) else { continue }
      let result = value * scale * factor
      return Self.range.contains(result) ? result : nil
    }
    return nil
  }
}

/// A number of tokens: `32768`, or `32K` for 32 x 1024 and `1M` for 1024 x 1024, as is usual for context lengths.
public struct TokenCount: Hashable, Sendable {
  /// The tokens, at least one.
  public let tokens: Int

  /// The longest supported context.
  public static let largest = 1 << 30

  /// A known number; `nil` outside 1 to ``largest``.
  public init?(tokens: Int) {
    guard (1...Self.largest).contains(tokens) else { return nil }
    self.tokens = tokens
  }

  /// Reads a number of tokens; `nil` if the text is not one.
  public init?(_ text: String) {
    var digits = text[...]
    var factor = 1
    switch text.last {
    case "k", "K": (digits, factor) = (digits.dropLast(), 1 << 10)
    case "m", "M": (digits, factor) = (digits.dropLast(), 1 << 20)
    default: break
    }
    guard !digits.isEmpty, digits.allSatisfy({ $0.isASCII && $0.isNumber }), let count = Int(digits) else {
      return nil
    }
    let (tokens, overflow) = count.multipliedReportingOverflow(by: factor)
    guard !overflow else { return nil }
    self.init(tokens: tokens)
  }
}
