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
  private var positions: [String: Int] = [:]

  /// No entries.
  public init() {}

  /// The value of a key; setting one replaces it in place or appends it, setting `nil` is not possible.
  ///
  /// - Complexity: O(1).
  public subscript(key: String) -> GGUFValue? { positions[key].map { entries[$0].value } }

  /// Sets a key, in its old place if it is there already, otherwise at the end.
  public mutating func set(_ key: String, _ value: GGUFValue) {
    if let position = positions[key] {
      entries[position] = Entry(key, value)
    } else {
      positions[key] = entries.count
      entries.append(Entry(key, value))
    }
  }

  public static func == (a: GGUFMetadata, b: GGUFMetadata) -> Bool { a.entries == b.entries }
  public func hash(into hasher: inout Hasher) { hasher.combine(entries) }
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
