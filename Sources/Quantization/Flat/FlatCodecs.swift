internal import CBlockKernels
internal import TensorFormats

extension BlockCodec {
  /// Plain floating-point scalars and the formats that round each element independently.
  static var flatCodecs: [BlockCodec] {
    scalarCodecs + eightBitCodecs + subByteCodecs + roundedBlockCodecs + fourBitFloatCodecs + ternaryCodecs
  }

  /// A codec of one of the flat formats, which have no use for an importance matrix.
  ///
  /// The twins work on one block: `decode` gets the block's bytes and fills its elements, `encode` the reverse.
  static func flat(
    _ type: ElementType, decodeKernel: @escaping cbk_decode_fn, encodeKernel: cbk_encode_fn?,
    decode: @escaping @Sendable (_ block: BlockBytes, _ values: inout BlockValues) -> Void,
    encode: (@Sendable (_ values: BlockValues, _ block: inout BlockBytes) -> Void)?
  ) -> BlockCodec {
    let layout = type.block
    var encodeTwin: (@Sendable (Span<Float>, Span<Float>?, Int, inout MutableRawSpan) -> Void)?
    if let encode {
      encodeTwin = { values, _, _, blocks in encodeBlocks(values, into: &blocks, layout, encode) }
    }
    return unsafe BlockCodec(
      elementType: type, importanceUse: .ignored, decodeKernel: decodeKernel, encodeKernel: encodeKernel,
      decodeTwin: { blocks, values in decodeBlocks(blocks, into: &values, layout, decode) },
      encodeTwin: encodeTwin)
  }

  /// Decodes block after block.
  static func decodeBlocks(
    _ blocks: RawSpan, into values: inout MutableSpan<Float>, _ layout: BlockLayout,
    _ decode: (BlockBytes, inout BlockValues) -> Void
  ) {
    var bytes = BlockBytes(repeating: 0, count: layout.bytes)
    var floats = BlockValues(repeating: 0, count: layout.elements)
    for block in 0..<(values.count / layout.elements) {
      for i in 0..<layout.bytes { bytes[i] = blocks.byte(block * layout.bytes + i) }
      decode(bytes, &floats)
      for i in 0..<layout.elements { values[block * layout.elements + i] = floats[i] }
    }
  }

  /// Encodes block after block.
  static func encodeBlocks(
    _ values: Span<Float>, into blocks: inout MutableRawSpan, _ layout: BlockLayout,
    _ encode: (BlockValues, inout BlockBytes) -> Void
  ) {
    var bytes = BlockBytes(repeating: 0, count: layout.bytes)
    var floats = BlockValues(repeating: 0, count: layout.elements)
    for block in 0..<(values.count / layout.elements) {
      for i in 0..<layout.elements { floats[i] = values[block * layout.elements + i] }
      encode(floats, &bytes)
      for i in 0..<layout.bytes {
        blocks.storeBytes(of: bytes[i], toByteOffset: block * layout.bytes + i, as: UInt8.self)
      }
    }
  }
}

/// The bytes of one block, in a twin.
typealias BlockBytes = [UInt8]
/// The elements of one block, in a twin.
typealias BlockValues = [Float]

extension RawSpan {
  /// One byte.
  func byte(_ offset: Int) -> UInt8 { unsafe unsafeLoad(fromByteOffset: offset, as: UInt8.self) }
}

extension [UInt8] {
  /// Two bytes, little-endian.
  func littleEndian16(at offset: Int) -> UInt16 { UInt16(self[offset]) | UInt16(self[offset + 1]) << 8 }

  /// Four bytes, little-endian.
  func littleEndian32(at offset: Int) -> UInt32 {
    UInt32(littleEndian16(at: offset)) | UInt32(littleEndian16(at: offset + 2)) << 16
  }

  /// Stores two bytes, little-endian.
  mutating func store(_ value: UInt16, at offset: Int) {
    self[offset] = UInt8(truncatingIfNeeded: value)
    self[offset + 1] = UInt8(truncatingIfNeeded: value >> 8)
  }

  /// Stores four bytes, little-endian.
  mutating func store(_ value: UInt32, at offset: Int) {
    store(UInt16(truncatingIfNeeded: value), at: offset)
    store(UInt16(truncatingIfNeeded: value >> 16), at: offset + 2)
  }
}
