internal import Quantization
internal import TensorFormats

/// Elements as numbers, one by one.
extension TensorValues {
  /// Whether the elements are real numbers that can be decoded here.
  var isReal: Bool {
    switch type {
    case .f32, .bf16, .f64: true
    default: codec != nil && !type.isInteger
    }
  }

  /// Decodes whole blocks to F32, which holds the values of every smaller type exactly.
  ///
  /// - Throws: `.unsupported` if no codec knows the type, `.malformed` if the sizes do not fit.
  func decode(_ bytes: RawSpan, into values: inout MutableSpan<Float>) throws(CheckpointError) {
    switch type {
    case .f32:
      for index in values.indices {
        values[index] = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: index * 4, as: Float.self)
      }
    case .bf16:
      for index in values.indices {
        let half = unsafe bytes.unsafeLoadUnaligned(fromByteOffset: index * 2, as: UInt16.self)
        values[index] = Float(bitPattern: UInt32(half) << 16)
      }
    default:
      guard let codec else { throw CheckpointError(.unsupported, "\(type) cannot be decoded") }
      try codec.decode(bytes, into: &values)
    }
  }

  /// Decodes whole blocks to F64.
  func doubles(_ bytes: RawSpan, count: Int) throws(CheckpointError) -> [Double] {
    if type == .f64 {
      return (0..<count).map { unsafe bytes.unsafeLoadUnaligned(fromByteOffset: $0 * 8, as: Double.self) }
    }
    var values = [Float](repeating: 0, count: count)
    do {
      var span = values.mutableSpan
      try decode(bytes, into: &span)
    }
    return values.map { Double($0) }
  }

  /// Integers, exactly; none for other types.
  func integers(_ bytes: RawSpan) -> [Int128] {
    func load<T: FixedWidthInteger & BitwiseCopyable>(_: T.Type) -> [Int128] {
      stride(from: 0, to: bytes.byteCount, by: MemoryLayout<T>.size).map {
        Int128(unsafe bytes.unsafeLoadUnaligned(fromByteOffset: $0, as: T.self))
      }
    }
    switch type {
    case .bool, .u8: return load(UInt8.self)
    case .i8: return load(Int8.self)
    case .u16: return load(UInt16.self)
    case .i16: return load(Int16.self)
    case .u32: return load(UInt32.self)
    case .i32: return load(Int32.self)
    case .u64: return load(UInt64.self)
    case .i64: return load(Int64.self)
    default: return []
    }
  }
}
