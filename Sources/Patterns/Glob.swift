/// A pattern that a whole name must match: `*` stands for any characters (dots too), `?` for one byte; everything else
/// for itself.
public struct Glob: Hashable, Sendable {
  /// The pattern as written.
  public let text: String
  private let bytes: [UInt8]

  /// Any text is a glob.
  public init(_ text: String) {
    self.text = text
    bytes = Array(text.utf8)
  }

  /// Whether a name matches.
  ///
  /// - Complexity: O(*p* *n*) at worst.
  public func matches(_ name: NameBytes) -> Bool {
    var steps = Int.max
    return matches(name, steps: &steps) ?? false
  }

  /// The greedy two-pointer match: after a mismatch only the latest `*` consumes one more byte.
  ///
  /// - Parameter steps: The number of steps allowed; updated to the number left.
  /// - Returns: `nil` if they ran out.
  func matches(_ name: NameBytes, steps: inout Int) -> Bool? {
    let (star, name) = (UInt8(ascii: "*"), name.utf8)
    var p = 0
    var n = 0
    var retry: (pattern: Int, name: Int)?
    while n < name.count {
      guard steps > 0 else { return nil }
      steps -= 1
      if p < bytes.count, bytes[p] == star {
        retry = (p + 1, n)
        p += 1
      } else if p < bytes.count, bytes[p] == name[n] || bytes[p] == UInt8(ascii: "?") {
        p += 1
        n += 1
      } else if let (afterStar, start) = retry {
        p = afterStar
        n = start + 1
        retry = (afterStar, n)
      } else {
        return false
      }
    }
    return bytes[p...].allSatisfy { $0 == star }
  }
}

/// A name with its bytes, converted once for all the patterns matched against it.
public struct NameBytes: Sendable {
  /// The name.
  public let text: String
  let utf8: [UInt8]

  /// Converts a name.
  public init(_ text: String) {
    self.text = text
    utf8 = Array(text.utf8)
  }
}
