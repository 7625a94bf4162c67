/// The bytes of one super-block of a K format.
struct SuperBlock: ~Copyable {
  /// Elements of a super-block, in every K format.
  static let elements = 256

  /// The bytes, at the offsets in the formats' diagrams.
  var bytes: [UInt8]

  /// A super-block of zeros.
  init(size: Int) { bytes = [UInt8](repeating: 0, count: size) }

  /// Sets every byte to 0.
  mutating func clear() {
    for index in bytes.indices { bytes[index] = 0 }
  }

  /// Takes over the bytes of a stored block.
  mutating func load(_ block: RawSpan) {
    for index in bytes.indices {
      bytes[index] = unsafe block.unsafeLoad(fromByteOffset: index, as: UInt8.self)
    }
  }

  /// Stores the bytes at `offset`.
  func store(into blocks: inout MutableRawSpan, at offset: Int) {
    for index in bytes.indices {
      blocks.storeBytes(of: bytes[index], toByteOffset: offset + index, as: UInt8.self)
    }
  }
}

// MARK: - Fields

extension SuperBlock {
  /// The value of the little-endian binary16 at `offset`.
  func half(at offset: Int) -> Float {
    HalfPrecision.float(UInt16(bytes[offset]) | UInt16(bytes[offset + 1]) << 8)
  }

  /// Stores `value` as binary16, rounded to nearest even, and returns the value stored.
  mutating func setHalf(_ value: Float, at offset: Int) -> Float {
    let bits = HalfPrecision.bits(value)
    bytes[offset] = UInt8(truncatingIfNeeded: bits)
    bytes[offset + 1] = UInt8(bits >> 8)
    return half(at: offset)
  }

  /// The `width` bits from bit `shift` of the byte at `offset`.
  func field(_ offset: Int, shift: Int, width: Int) -> Int {
    Int(bytes[offset]) >> shift & ((1 << width) - 1)
  }

  /// Sets bits that are still 0: those of `value`, from bit `shift` of the byte at `offset`, truncated to the byte.
  mutating func put(_ value: Int, _ offset: Int, shift: Int) {
    bytes[offset] |= UInt8(truncatingIfNeeded: value << shift)
  }
}

// MARK: - Level layouts that several formats share

extension SuperBlock {
  /// Where a format that stores two bits of each element has those of element `index`: four elements, 32 apart, share
  /// a byte; 128 elements take 32 bytes.
  static func pair(_ index: Int) -> (byte: Int, shift: Int) {
    (index / 128 * 32 + index % 32, index % 128 / 32 * 2)
  }

  /// Where a format that stores four bits of each element has those of element `index`: two elements, 32 apart, share
  /// a byte; 64 elements take 32 bytes.
  static func nibble(_ index: Int) -> (byte: Int, shift: Int) {
    (index / 64 * 32 + index % 32, index % 64 / 32 * 4)
  }

  /// Where a format that stores one bit of each element has that of element `index`: eight elements, 32 apart, share a
  /// byte.
  static func bit(_ index: Int) -> (byte: Int, shift: Int) { (index % 32, index / 32) }
}
