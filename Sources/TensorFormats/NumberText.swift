/// Numbers formatted for people, independent of locale.
public enum NumberText {
  /// A number with `places` decimals: `0.0713`. Non-finite numbers, and those too large for decimals to matter, are
  /// printed as Swift does.
  public static func decimals(_ value: Double, _ places: Int) -> String {
    var scale = 1.0
    for _ in 0..<places { scale *= 10 }
    let scaled = (value.magnitude * scale).rounded()
    guard scaled < 1e15 else { return "\(value)" }
    let digits = String(Int(scaled))
    let padded = String(repeating: "0", count: max(0, places + 1 - digits.count)) + digits
    let sign = value < 0 && scaled > 0 ? "-" : ""
    return sign + padded.dropLast(places) + (places > 0 ? "." + padded.suffix(places) : "")
  }

  /// A number with up to `places` decimals, without trailing zeros: `0.07`.
  public static func trimmed(_ value: Double, _ places: Int) -> String {
    var text = decimals(value, places)
    guard value.isFinite, text.contains("."), !text.contains("e") else { return text }
    while text.hasSuffix("0") { text.removeLast() }
    return text.hasSuffix(".") ? String(text.dropLast()) : text
  }

  /// A number with three significant digits, or all before the point: `0.00213`, `1.5e-7`.
  public static func significant(_ value: Double) -> String {
    guard value.isFinite, value != 0 else { return value == 0 ? "0" : "\(value)" }
    var (exponent, scaled) = (0, value.magnitude)
    while scaled < 1 {
      scaled *= 10
      exponent -= 1
    }
    // What rounds up to ten has one digit more before it.
    if exponent < 0, (scaled * 100).rounded() >= 1000 {
      scaled /= 10
      exponent += 1
    }
    guard exponent >= -6 else { return "\(trimmed(value < 0 ? -scaled : scaled, 2))e\(exponent)" }
    var places = 2 - exponent
    while scaled >= 10, places > 0 {
      scaled /= 10
      places -= 1
    }
    return trimmed(value, places)
  }

  /// A share as a percentage, with up to three significant digits: `14.2 %`.
  public static func percent(_ share: Double) -> String {
    let value = share * 100
    var scale = 1.0
    while value > 0, value * scale < 100, scale < 1e6 { scale *= 10 }
    let text = "\((value * scale).rounded() / scale)"
    return (text.hasSuffix(".0") ? String(text.dropLast(2)) : text) + " %"
  }
}
