/// The key-value pairs of a GGUF file, in the order of the file.
public struct GGUFMetadata: Hashable, Sendable {
  /// One key with its value.
  public struct Entry: Hashable, Sendable {
    /// For example `general.architecture`.
    public let key: String
    /// The value with its exact type.
    public let value: GGUFValue

    /// Makes an entry.
    public init(_ key: String, _ value: GGUFValue) {
      self.key = key
      self.value = value
    }
  }

  /// In file order.
  public private(set) var entries: [Entry] = []
  private var positions: [ExactText: Int] = [:]

  /// No entries.
  public init() {}

  /// The given entries in their order; where a key comes again, its last value takes its first place.
  public init(_ entries: some Sequence<Entry>) {
    for entry in entries { set(entry.key, entry.value) }
  }

  /// The value of a key, or `nil`. Keys are compared byte by byte.
  ///
  /// - Complexity: O(1).
  public subscript(key: String) -> GGUFValue? { positions[ExactText(key)].map { entries[$0].value } }

  /// Sets a key, in its old place if it is there already, otherwise at the end.
  ///
  /// - Complexity: O(1).
  public mutating func set(_ key: String, _ value: GGUFValue) {
    if let position = positions[ExactText(key)] {
      entries[position] = Entry(key, value)
    } else {
      positions[ExactText(key)] = entries.count
      entries.append(Entry(key, value))
    }
  }

  /// Removes a key; the others keep their order.
  ///
  /// - Returns: The value it had, `nil` if the key was not there.
  /// - Complexity: O(n).
  @discardableResult
  public mutating func remove(_ key: String) -> GGUFValue? {
    guard let position = positions.removeValue(forKey: ExactText(key)) else { return nil }
    let removed = entries.remove(at: position)
    for later in position..<entries.count { positions[ExactText(entries[later].key)] = later }
    return removed.value
  }

  public static func == (a: GGUFMetadata, b: GGUFMetadata) -> Bool { a.entries == b.entries }
  public func hash(into hasher: inout Hasher) { hasher.combine(entries) }
}

extension GGUFMetadata: ExpressibleByDictionaryLiteral {
  /// `["general.architecture": .string("step3"), ...]`, in this order; where a key comes again, its last value
  /// takes its first place.
  public init(dictionaryLiteral elements: (String, GGUFValue)...) {
    self.init(elements.lazy.map { Entry($0.0, $0.1) })
  }
}

/// A metadata value with the type it has in the file.
public enum GGUFValue: Hashable, Sendable {
  case uint8(UInt8)
  case int8(Int8)
  case uint16(UInt16)
  case int16(Int16)
  case uint32(UInt32)
  case int32(Int32)
  case uint64(UInt64)
  case int64(Int64)
  case float32(Float)
  case float64(Double)
  case bool(Bool)
  case string(String)
  case array(GGUFArray)
}

/// A metadata array: elements of one type, never arrays.
public enum GGUFArray: Hashable, Sendable {
  case uint8([UInt8])
  case int8([Int8])
  case uint16([UInt16])
  case int16([Int16])
  case uint32([UInt32])
  case int32([Int32])
  case uint64([UInt64])
  case int64([Int64])
  case float32([Float])
  case float64([Double])
  case bool([Bool])
  case string([String])
}
