package import TensorFormats

// MARK: - Numbers

extension JSONScanner {
  /// Reads a dimension, an offset or a size: a JSON integer from 0 to 2^63 - 1, written without fraction or exponent.
  package mutating func scanNonNegativeInteger(_ what: String) throws(CheckpointError) -> Int {
    skipWhitespace()
    begin(at: position)
    let start = position
    var value = 0
    while position < bytes.count {
      let digit = bytes[position] &- UInt8(ascii: "0")
      guard digit <= 9 else { break }
      let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = tens.addingReportingOverflow(Int(digit))
      guard !overflow, !carry else { throw error("\(what) is larger than 2^63 - 1", at: start) }
      value = sum
      position += 1
    }
    guard position > start else {
      if position < bytes.count, bytes[position] == UInt8(ascii: "-") {
        throw error("\(what) is negative", at: start)
      }
      throw unexpected("\(what): a whole number")
    }
    guard position - start == 1 || bytes[start] != UInt8(ascii: "0") else {
      throw error("\(what) is a number with leading zeros", at: start)
    }
    if position < bytes.count {
      switch bytes[position] {
      case UInt8(ascii: "."), UInt8(ascii: "e"), UInt8(ascii: "E"):
        throw error("\(what) must be a whole number, without fraction or exponent", at: start)
      default: break
      }
    }
    return value
  }

  /// Reads a number that some writers store as a float: an integer, or a float whose value is a whole number below
  /// 2^53, where floats still tell neighbours apart.
  package mutating func scanWholeNumber(_ what: String) throws(CheckpointError) -> Int {
    let range = try scanNumber(what)
    let text = unsafe bytes.extracting(range).withUnsafeBufferPointer {
      unsafe String(decoding: $0, as: UTF8.self)
    }
    if let value = Int(text), value >= 0 { return value }
    guard let value = Double(text), value >= 0, value < 0x1p53, value == value.rounded(.towardZero),
      !text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) })
    else {
      throw error("\(what) is \(text.printable), not a whole number of bytes that fits", at: range.lowerBound)
    }
    return Int(value)
  }

  /// Steps over a number and returns where it lies in the text.
  ///
  /// Source: RFC 8259, section 6; for Python's dialect the documentation of its `json` module.
  mutating func scanNumber(_ what: String) throws(CheckpointError) -> Range<Int> {
    skipWhitespace()
    begin(at: position)
    let start = position
    if let end = endOfConstant() {
      position = end
      return start..<end
    }
    if position < bytes.count, bytes[position] == UInt8(ascii: "-") { position += 1 }
    let integer = position
    guard skipDigits() > 0 else {
      position = start
      throw unexpected(what == "a value" ? what : "\(what): a number")
    }
    guard position - integer == 1 || bytes[integer] != UInt8(ascii: "0") else {
      throw error("a number has leading zeros", at: start)
    }
    if position < bytes.count, bytes[position] == UInt8(ascii: ".") {
      position += 1
      guard skipDigits() > 0 else { throw error("a number ends with its decimal point", at: start) }
    }
    if position < bytes.count, bytes[position] | 0x20 == UInt8(ascii: "e") {
      position += 1
      if position < bytes.count, bytes[position] == UInt8(ascii: "+") || bytes[position] == UInt8(ascii: "-")
      {
        position += 1
      }
      guard skipDigits() > 0 else { throw error("a number's exponent has no digits", at: start) }
    }
    return start..<position
  }

  /// The position after a constant that Python writes for a number that JSON does not have.
  private func endOfConstant() -> Int? {
    guard dialect == .python, position < bytes.count else { return nil }
    let constant: StaticString
    switch bytes[position] {
    case UInt8(ascii: "N"): constant = "NaN"
    case UInt8(ascii: "I"): constant = "Infinity"
    case UInt8(ascii: "-"): constant = "-Infinity"
    default: return nil
    }
    let end = position + constant.utf8CodeUnitCount
    guard end <= bytes.count else { return nil }
    for index in position..<end where unsafe bytes[index] != constant.utf8Start[index - position] {
      return nil
    }
    return end
  }

  /// Steps over decimal digits and returns how many there were.
  private mutating func skipDigits() -> Int {
    let start = position
    while position < bytes.count, bytes[position] &- UInt8(ascii: "0") <= 9 { position += 1 }
    return position - start
  }
}
