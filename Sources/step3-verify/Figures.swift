/// A figure with four digits that count.
func number(_ value: Double) -> String {
  guard value.isFinite else { return "\(value)" }
  if value == 0 { return "0" }
  let magnitude = abs(value)
  if magnitude >= 1000 { return decimals(value, 1) }
  if magnitude >= 1 { return decimals(value, 4) }
  if magnitude >= 1e-4 { return decimals(value, 6) }
  var (mantissa, exponent) = (value, 0)
  while abs(mantissa) < 1 { (mantissa, exponent) = (mantissa * 10, exponent - 1) }
  return "\(decimals(mantissa, 2))e\(exponent)"
}

/// A share as a percentage.
func percent(_ share: Double) -> String {
  guard share.isFinite else { return "\(share)" }
  return share > 0 && share < 1e-4
    ? "\(number(share * 100)) %" : "\(decimals(share * 100, share < 0.1 ? 3 : 2)) %"
}

/// A number with so many decimals.
func decimals(_ value: Double, _ count: Int) -> String {
  var scale = 1.0
  for _ in 0..<count { scale *= 10 }
  let rounded = (abs(value) * scale).rounded()
  guard rounded < 1e15 else { return "\(value)" }
  let (whole, fraction) = Int(rounded).quotientAndRemainder(dividingBy: Int(scale))
  let digits = String(fraction)
  let sign = value < 0 && rounded > 0 ? "-" : ""
  return count == 0
    ? "\(sign)\(whole)" : "\(sign)\(whole)." + String(repeating: "0", count: count - digits.count) + digits
}
