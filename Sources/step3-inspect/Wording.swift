internal import CommandSupport
internal import TensorFormats

/// `320,969,912,832`
func grouped(_ number: Int) -> String { NumberText.grouped(number) }

/// `1 file`, `1,663 tensors`
func counted(_ number: Int, _ noun: String) -> String {
  "\(grouped(number)) \(noun)\(number == 1 ? "" : "s")"
}

/// `642 GB`
func size(_ bytes: Int) -> String { ByteSize(bytes: bytes).decimal }

/// The part's directory in a partition set, from the path of one of its files.
func part(of file: String) -> String { String(file.prefix { $0 != "/" }) }

/// `92.3%`
func percentage(_ fraction: Double) -> String {
  NumberText.decimals(fraction * 100, 1) + "%"
}

/// `48×5120×7168`; `scalar` without dimensions.
func shapeText(_ shape: TensorShape) -> String {
  shape.dimensions.isEmpty ? "scalar" : shape.dimensions.map(String.init).joined(separator: "×")
}

/// A number with up to six significant digits, or `digits`.
func significant(_ value: Double, digits: Int = 6) -> String {
  guard value.isFinite, value != 0 else { return value == 0 ? "0" : "\(value)" }
  let magnitude = abs(value)
  if value == value.rounded(), magnitude < 1e6 { return String(Int(value)) }
  if magnitude >= 1e6 || magnitude < 1e-4 {
    var exponent = 0
    var mantissa = magnitude
    // A mantissa that would print as 10 becomes 1 of the next power.
    var slack = 5.0
    for _ in 0..<digits { slack /= 10 }
    while mantissa >= 10 - slack { (mantissa, exponent) = (mantissa / 10, exponent + 1) }
    while mantissa < 1 - slack / 10 { (mantissa, exponent) = (mantissa * 10, exponent - 1) }
    return (value < 0 ? "-" : "") + NumberText.trimmed(mantissa, digits - 1) + "e\(exponent)"
  }
  var places = digits - 1
  var bound = 10.0
  while magnitude >= bound { (places, bound) = (places - 1, bound * 10) }
  bound = 1
  while magnitude < bound { (places, bound) = (places + 1, bound / 10) }
  return (value < 0 ? "-" : "") + NumberText.trimmed(magnitude, max(0, places))
}

/// Lines of `key  value`, with the values aligned.
func keyValueText(_ rows: [(String, String)]) -> String {
  let width = rows.map(\.0.count).max() ?? 0
  return rows.map { key, value in
    key + String(repeating: " ", count: width - key.count + 2) + value.escapingControlCharacters + "\n"
  }.joined()
}
