internal import TensorFormats
internal import Verification

/// A figure with four significant digits.
func number(_ value: Double) -> String {
  guard value.isFinite else { return "\(value)" }
  if value == 0 { return "0" }
  let magnitude = abs(value)
  if magnitude >= 1000 { return NumberText.decimals(value, 1) }
  if magnitude >= 1 { return NumberText.decimals(value, 4) }
  if magnitude >= 1e-4 { return NumberText.decimals(value, 6) }
  var (mantissa, exponent) = (value, 0)
  while abs(mantissa) < 1 { (mantissa, exponent) = (mantissa * 10, exponent - 1) }
  return "\(NumberText.decimals(mantissa, 2))e\(exponent)"
}

/// A figure and its standard error, if there is one.
func number(_ value: Double, _ error: Double?) -> String {
  error.map { "\(number(value)) +- \(number($0))" } ?? number(value)
}

/// The same.
func number(_ estimate: Estimate) -> String { number(estimate.value, estimate.standardError) }

/// A share as a percentage.
func percent(_ share: Double) -> String {
  guard share.isFinite else { return "\(share)" }
  return share > 0 && share < 1e-4
    ? "\(number(share * 100)) %" : "\(NumberText.decimals(share * 100, share < 0.1 ? 3 : 2)) %"
}
