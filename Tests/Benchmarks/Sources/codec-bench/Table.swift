import Quantization

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// Prints results as they come, for people or as JSON.
struct Table {
  var tier: KernelTier
  var copyRate: Double
  var digests: DigestRates
  var asJSON: Bool

  private typealias Column = (
    title: String, key: String, digits: Int, value: @Sendable (CodecResult) -> Double?
  )

  private static let columns: [Column] = [
    ("bits/w", "bitsPerWeight", 3, { $0.bitsPerWeight }),
    ("encode", "encodeGBps", 3, { $0.encodeRate }),
    ("+errors", "encodeMeasuredGBps", 3, { $0.measuredEncodeRate }),
    ("weighted", "encodeWeightedGBps", 3, { $0.weightedEncodeRate }),
    ("x twin", "encodeOverTwin", 1, { $0.encodeOverTwin }),
    ("x port.", "encodeOverPortable", 1, { $0.encodeOverPortable }),
    ("x copy", "encodeOverCopy", 2, { $0.encodeOverCopy }),
    ("decode", "decodeGBps", 2, { $0.decodeRate }),
    ("x port.", "decodeOverPortable", 1, { $0.decodeOverPortable }),
    ("x copy", "decodeOverCopy", 2, { $0.decodeOverCopy }),
    ("rmse gauss", "relativeRMSEGaussian", 5, { $0.gaussianError }),
    ("rmse heavy", "relativeRMSEHeavyTailed", 5, { $0.heavyTailedError }),
  ]

  func begin() {
    if asJSON {
      print(
        "{\"kernels\": \"\(tier)\", \"memcpyGBps\": \(Self.text(copyRate, 2)), "
          + "\"xxh3GBps\": \(Self.text(digests.xxh3, 2)), \"sha256GBps\": \(Self.text(digests.sha256, 2)), \"formats\": ["
      )
      return
    }
    print("Kernels: \(tier). memcpy: \(Self.text(copyRate, 1)) GB/s read plus written. One core.")
    print("XXH3-128: \(Self.text(digests.xxh3, 1)) GB/s. SHA-256: \(Self.text(digests.sha256, 2)) GB/s.")
    print(
      "encode: GB/s of BF16 in, alone, with error sums, and with an importance matrix; decode: GB/s of F32 out; rmse relative to that of the weights."
    )
    print(Self.line("format", Self.columns.map(\.title)))
  }

  func add(_ result: CodecResult, isLast: Bool) {
    if asJSON {
      let fields = Self.columns.compactMap { column in
        column.value(result).map { "\"\(column.key)\": \(Self.text($0, 6))" }
      }
      print("  {\"format\": \"\(result.format)\", \(fields.joined(separator: ", "))}\(isLast ? "" : ",")")
    } else {
      print(
        Self.line(
          result.format,
          Self.columns.map { column in column.value(result).map { Self.text($0, column.digits) } ?? "-" }))
    }
    fflush(nil)
  }

  func end() {
    if asJSON { print("]}") }
  }

  private static func line(_ first: String, _ cells: [String]) -> String {
    padded(first, 12, left: true) + cells.map { padded($0, 11, left: false) }.joined()
  }

  private static func padded(_ text: String, _ width: Int, left: Bool) -> String {
    let fill = String(repeating: " ", count: max(0, width - text.count))
    return left ? text + fill : fill + text
  }

  /// A decimal number with the given number of digits after the point.
  private static func text(_ value: Double, _ digits: Int) -> String {
    guard value.isFinite else { return "0" }
    let unit = (0..<digits).reduce(1.0) { product, _ in product * 10 }
    let scaled = (value.magnitude * unit).rounded()
    let whole = (scaled / unit).rounded(.down)
    let fraction = String(Int(scaled - whole * unit))
    let sign = value < 0 ? "-" : ""
    return sign + String(Int(whole)) + "."
      + String(repeating: "0", count: max(0, digits - fraction.count)) + fraction
  }
}
