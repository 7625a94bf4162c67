/// The name of one file of a numbered set: `model-00002-of-00005.safetensors`.
struct NumberedName {
  /// What the names of all files of the set begin and end with, with the number of files.
  struct Family: Hashable {
    let prefix: String
    let digits: Int
    let count: Int
    let suffix: String

    func name(_ number: Int) -> String {
      func padded(_ value: Int) -> String {
        let text = String(value)
        return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
      }
      return "\(prefix)\(padded(number))-of-\(padded(count))\(suffix)"
    }
  }

  let family: Family
  let number: Int

  /// More files than any set has: a name cannot ask for a list of billions.
  static let largestCount = 100_000

  /// `nil` for any other name.
  init?(_ name: String, suffix: String = ".safetensors") {
    guard name.hasSuffix(suffix) else { return nil }
    var rest = name.dropLast(suffix.count)
    guard let count = Self.takeNumber(&rest), rest.hasSuffix("-of-") else { return nil }
    rest = rest.dropLast(4)
    guard let number = Self.takeNumber(&rest), number.digits == count.digits, number.value <= count.value,
      (1...Self.largestCount).contains(count.value)
    else { return nil }
    self.number = number.value
    family = Family(prefix: String(rest), digits: count.digits, count: count.value, suffix: suffix)
  }

  private static func takeNumber(_ text: inout Substring) -> (value: Int, digits: Int)? {
    let digits = text.utf8.reversed().prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }.count
    guard (1...6).contains(digits), let value = Int(text.suffix(digits)) else { return nil }
    text = text.dropLast(digits)
    return (value, digits)
  }
}

extension NumberedName {
  /// Which files of a set are missing, given the numbers of those that are there. Sets count from 1, a few from 0.
  static func missing(from family: Family, found numbers: Set<Int>) -> [String] {
    let first = numbers.contains(0) ? 0 : 1
    return (first..<(first + family.count)).filter { !numbers.contains($0) }.map(family.name)
  }
}
