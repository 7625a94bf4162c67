public import ArgumentParser
internal import TensorFormats

/// A number of bytes as people write it: `2GiB`, `512MiB`, `5GB`, `1.5T`, `4096`.
///
/// `KiB`, `MiB`, ... count in 1024s; `KB`, `MB`, ... and the bare letters `K`, `M`, ... in 1000s, as disks and the
/// Hub do. Case does not matter.
public struct ByteSize: Hashable, Sendable {
  /// The bytes; never negative.
  public var bytes: Int

  /// A size that is known already.
  public init(bytes: Int) { self.bytes = bytes }

  private static let prefixes: [Character] = ["k", "m", "g", "t", "p", "e"]

  /// Reads a size; `nil` if the text is not a size, is negative, or is larger than any file can be.
  ///
  /// A fraction is fine as long as the result is a whole number of bytes after rounding down.
  public init?(_ text: String) {
    let lowered = text.lowercased()
    let digits = lowered.prefix { $0.isASCII && ($0.isNumber || $0 == "." || $0 == "_") }
    var unit = lowered.dropFirst(digits.count).drop { $0 == " " }
    var factor = 1
    if let prefix = unit.first, let power = Self.prefixes.firstIndex(of: prefix) {
      unit = unit.dropFirst()
      let base = unit.first == "i" ? 1024 : 1000
      if base == 1024 { unit = unit.dropFirst() }
      for _ in 0...power { factor *= base }
      // "Ki" without the B is how Kubernetes writes it.
    }
    guard unit.isEmpty || unit == "b", let bytes = Self.multiply(digits, by: factor) else { return nil }
    self.bytes = bytes
  }

  /// `digits` times `factor`, in integers, so that no size is rounded on its way through a floating-point number.
  private static func multiply(_ digits: Substring, by factor: Int) -> Int? {
    let parts = digits.filter { $0 != "_" }.split(separator: ".", omittingEmptySubsequences: false)
    guard (1...2).contains(parts.count), let whole = Int(parts[0]) else { return nil }
    var (bytes, overflow) = whole.multipliedReportingOverflow(by: factor)
    guard !overflow else { return nil }
    if parts.count == 2 {
      // Nine decimals are a billionth of the unit; more say nothing.
      guard !parts[1].isEmpty, let fraction = Int(parts[1].prefix(9)) else { return nil }
      let scale = (0..<min(9, parts[1].count)).reduce(1) { product, _ in product * 10 }
      let (high, low) = factor.multipliedFullWidth(by: fraction)
      (bytes, overflow) = bytes.addingReportingOverflow(scale.dividingFullWidth((high, low)).quotient)
      guard !overflow else { return nil }
    }
    return bytes
  }
}

extension ByteSize: ExpressibleByArgument {
  /// Reads a size given on the command line.
  public init?(argument: String) { self.init(argument) }

  /// How the value is shown as a default.
  public var defaultValueDescription: String { binary }
}

// MARK: - Printing

extension ByteSize {
  /// In 1000s, with three significant digits: `642 GB`, `3.52 GB`, `14.3 kB`, `96 B`.
  public var decimal: String { NumberText.decimalSize(bytes) }

  /// In 1024s, with three significant digits: `598 GiB`, `3.28 GiB`, `96 B`.
  public var binary: String { NumberText.binarySize(bytes) }
}
