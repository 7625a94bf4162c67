extension NumberText {
  /// A number of bytes in 1000s, as disks and the hubs count, with three significant digits: `642 GB`, `3.52 GB`, `96 B`.
  public static func decimalSize(_ bytes: Int) -> String {
    describe(bytes, base: 1000, units: ["B", "kB", "MB", "GB", "TB", "PB", "EB"])
  }

  /// The same in 1024s, as memory is counted: `598 GiB`, `3.28 GiB`, `96 B`.
  public static func binarySize(_ bytes: Int) -> String {
    describe(bytes, base: 1024, units: ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
  }

  /// A large number in words: `321 billion`, `4.20 million`, `96`.
  public static func inWords(_ number: Int) -> String {
    let units = ["", " thousand", " million", " billion", " trillion"]
    return describe(number, base: 1000, units: units, separator: "")
  }

  private static func describe(_ bytes: Int, base: Double, units: [String], separator: String = " ") -> String
  {
    var value = Double(bytes)
    var unit = 0
    // 999.5 would be printed as 1000: use the next unit.
    while unit + 1 < units.count, value >= (unit == 0 ? base : min(base, 999.5)) {
      value /= base
      unit += 1
    }
    return (unit == 0 ? "\(bytes)" : threeDigits(value)) + separator + units[unit]
  }

  private static func threeDigits(_ value: Double) -> String {
    if value < 9.995 { return decimals(value, 2) }
    if value < 99.95 { return decimals(value, 1) }
    return decimals(value, 0)
  }

  /// A whole number in groups of three digits: `320,969,912,832`.
  public static func grouped(_ number: Int) -> String {
    let digits = String(number.magnitude)
    var text = ""
    for (index, digit) in digits.enumerated() {
      if index > 0, (digits.count - index) % 3 == 0 { text += "," }
      text.append(digit)
    }
    return (number < 0 ? "-" : "") + text
  }
}
