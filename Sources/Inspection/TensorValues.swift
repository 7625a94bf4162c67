internal import GGUF
internal import Quantization
internal import TensorFormats

/// How to interpret the bytes of one element type, as figures and as numbers.
///
/// Bytes are little-endian here; see ``makeLittleEndian(_:_:from:)``.
struct TensorValues: Sendable {
  let type: ElementType
  /// Turns bytes into F32; `nil` for types that are not real numbers, and for those without a codec.
  let codec: BlockCodec?
  /// The values of the 256 bytes, for one-byte floats.
  private let byteValues: [Float]?

  /// The elements that are decoded at a time: with their block they fit the second-level cache. A multiple of every
  /// block's elements.
  static let decodedElementCount = 1 << 15

  init(_ type: ElementType) {
    self.type = type
    codec = BlockCodec.codec(for: type)
    if type.block.bytes == 1, type.block.elements == 1, !type.isInteger, let codec {
      var values = [Float](repeating: 0, count: 256)
      let bytes = [UInt8](0...255)
      var span = values.mutableSpan
      // Sizes match by construction; if a codec refuses them, the type has no values.
      let decoded: Void? = try? unsafe codec.decode(bytes.span.bytes, into: &span)
      byteValues = decoded == nil ? nil : values
    } else {
      byteValues = nil
    }
  }

  /// Swaps bytes from a big-endian file in place; does nothing for others.
  static func makeLittleEndian(_ type: ElementType, _ bytes: inout MutableRawSpan, from order: GGUFByteOrder)
  {
    if order == .big { GGUFByteOrder.swapPayload(type, &bytes) }
  }

  /// The figures of whole blocks; `nil` if the type has no ordered values, or no codec.
  ///
  /// - Parameters:
  ///   - decoded: Room for ``decodedElementCount`` values.
  ///   - counter: Also counts the values; `nil` if not requested.
  func statistics(_ bytes: RawSpan, decoded: inout [Float], counter: inout ValueCounter?)
    throws(CheckpointError) -> ValueStatistics?
  {
    switch type {
    case .f32:
      var figures = RealStatistics()
      figures.add(float32: bytes)
      counter?.add(float32: bytes)
      return figures.result
    case .bf16:
      var figures = RealStatistics()
      figures.add(bfloat16: bytes)
      counter?.add(bfloat16: bytes)
      return figures.result
    case .f64: return ScalarStatistics.doubles(bytes, &counter)
    case .bool, .u8: return ByteHistogram(bytes).statistics(signed: false, &counter)
    case .i8: return ByteHistogram(bytes).statistics(signed: true, &counter)
    case .u16: return ScalarStatistics.integers(UInt16.self, bytes, &counter)
    case .i16: return ScalarStatistics.integers(Int16.self, bytes, &counter)
    case .u32: return ScalarStatistics.integers(UInt32.self, bytes, &counter)
    case .i32: return ScalarStatistics.integers(Int32.self, bytes, &counter)
    case .u64: return ScalarStatistics.integers(UInt64.self, bytes, &counter)
    case .i64: return ScalarStatistics.integers(Int64.self, bytes, &counter)
    default: break
    }
    if let byteValues { return ByteHistogram(bytes).statistics(of: byteValues, &counter) }
    guard let codec else { return nil }
    var figures = RealStatistics()
    let block = type.block
    let step = Self.decodedElementCount / block.elements * block.bytes
    for start in stride(from: 0, to: bytes.byteCount, by: step) {
      let part = bytes.extracting(start..<min(bytes.byteCount, start + step))
      let count = part.byteCount / block.bytes * block.elements
      do {
        var all = decoded.mutableSpan
        var span = all._mutatingExtracting(..<count)
        try codec.decode(part, into: &span)
      }
      unsafe figures.add(float32: decoded.span.extracting(..<count).bytes)
      unsafe counter?.add(float32: decoded.span.extracting(..<count).bytes)
    }
    return figures.result
  }
}
