/// The type of a metadata value as its number in the file.
///
/// Source: `enum gguf_metadata_value_type` of the GGUF specification.
public enum GGUFValueType: UInt32, Hashable, Sendable, CaseIterable {
  case uint8 = 0
  case int8 = 1
  case uint16 = 2
  case int16 = 3
  case uint32 = 4
  case int32 = 5
  case float32 = 6
  case bool = 7
  case string = 8
  case array = 9
  case uint64 = 10
  case int64 = 11
  case float64 = 12

  /// The fewest bytes that a value takes in the file: the size of a number, the length field of a string, the
  /// type and the count of an array.
  public var minimumByteCount: Int {
    switch self {
    case .uint8, .int8, .bool: 1
    case .uint16, .int16: 2
    case .uint32, .int32, .float32: 4
    case .uint64, .int64, .float64, .string: 8
    case .array: 12
    }
  }
}

extension GGUFValueType: CustomStringConvertible {
  /// The abbreviations of the reference reader: `u8`, `f32`, `str`, `arr`, ...
  public var description: String {
    switch self {
    case .uint8: "u8"
    case .int8: "i8"
    case .uint16: "u16"
    case .int16: "i16"
    case .uint32: "u32"
    case .int32: "i32"
    case .float32: "f32"
    case .bool: "bool"
    case .string: "str"
    case .array: "arr"
    case .uint64: "u64"
    case .int64: "i64"
    case .float64: "f64"
    }
  }
}

extension GGUFValue {
  /// The type as the file states it.
  public var type: GGUFValueType {
    switch self {
    case .uint8: .uint8
    case .int8: .int8
    case .uint16: .uint16
    case .int16: .int16
    case .uint32: .uint32
    case .int32: .int32
    case .uint64: .uint64
    case .int64: .int64
    case .float32: .float32
    case .float64: .float64
    case .bool: .bool
    case .string: .string
    case .array: .array
    }
  }

  /// The value as an `Int`; `nil` if it is not an integer or does not fit.
  public var integer: Int? {
    switch self {
    case .uint8(let value): Int(value)
    case .int8(let value): Int(value)
    case .uint16(let value): Int(value)
    case .int16(let value): Int(value)
    case .uint32(let value): Int(value)
    case .int32(let value): Int(value)
    case .uint64(let value): Int(exactly: value)
    case .int64(let value): Int(value)
    case .float32, .float64, .bool, .string, .array: nil
    }
  }
}

extension GGUFArray {
  /// The type of the elements; never ``GGUFValueType/array``.
  public var elementType: GGUFValueType {
    switch self {
    case .uint8: .uint8
    case .int8: .int8
    case .uint16: .uint16
    case .int16: .int16
    case .uint32: .uint32
    case .int32: .int32
    case .uint64: .uint64
    case .int64: .int64
    case .float32: .float32
    case .float64: .float64
    case .bool: .bool
    case .string: .string
    }
  }

  /// The number of elements.
  public var count: Int {
    switch self {
    case .uint8(let values): values.count
    case .int8(let values): values.count
    case .uint16(let values): values.count
    case .int16(let values): values.count
    case .uint32(let values): values.count
    case .int32(let values): values.count
    case .uint64(let values): values.count
    case .int64(let values): values.count
    case .float32(let values): values.count
    case .float64(let values): values.count
    case .bool(let values): values.count
    case .string(let values): values.count
    }
  }

  /// The elements as `Int`s; `nil` if they are not integers or one does not fit.
  ///
  /// - Complexity: O(n).
  public var integers: [Int]? {
    switch self {
    case .uint8(let values): return values.map { Int($0) }
    case .int8(let values): return values.map { Int($0) }
    case .uint16(let values): return values.map { Int($0) }
    case .int16(let values): return values.map { Int($0) }
    case .uint32(let values): return values.map { Int($0) }
    case .int32(let values): return values.map { Int($0) }
    case .uint64(let values):
      var result: [Int] = []
      result.reserveCapacity(values.count)
      for value in values {
        guard let value = Int(exactly: value) else { return nil }
        result.append(value)
      }
      return result
    case .int64(let values): return values.map { Int($0) }
    case .float32, .float64, .bool, .string: return nil
    }
  }
}
