/// Typed lookups. Each is `nil` where the key is missing *and* where its value has another type; ask ``subscript(_:)``
/// to tell the two apart.
extension GGUFMetadata {
  /// The text of a string value.
  public func string(_ key: String) -> String? {
    guard case .string(let value) = self[key] else { return nil }
    return value
  }

  /// An integer of any width and sign, because writers differ in the type they choose; `nil` if it does not fit.
  public func integer(_ key: String) -> Int? { self[key]?.integer }

  /// A floating-point number of either width.
  public func float(_ key: String) -> Double? {
    switch self[key] {
    case .float32(let value): Double(value)
    case .float64(let value): value
    default: nil
    }
  }

  /// A truth value.
  public func bool(_ key: String) -> Bool? {
    guard case .bool(let value) = self[key] else { return nil }
    return value
  }

  /// An array, whatever its elements are.
  public func array(_ key: String) -> GGUFArray? {
    guard case .array(let value) = self[key] else { return nil }
    return value
  }

  /// An array of strings.
  public func strings(_ key: String) -> [String]? {
    guard case .array(.string(let values)) = self[key] else { return nil }
    return values
  }

  /// An array of integers of any width and sign; `nil` if one of them does not fit.
  public func integers(_ key: String) -> [Int]? { array(key)?.integers }

  /// An array of floating-point numbers of either width.
  public func floats(_ key: String) -> [Double]? {
    switch array(key) {
    case .float32(let values): values.map { Double($0) }
    case .float64(let values): values
    default: nil
    }
  }

  /// An array of truth values.
  public func bools(_ key: String) -> [Bool]? {
    guard case .array(.bool(let values)) = self[key] else { return nil }
    return values
  }
}
