internal import CXXHash

/// The numbers of the container, which `Manuals/archive.md` describes byte by byte.
///
/// Source of the frames: RFC 8878; of the seek table: "Zstandard Seekable Format" 0.1.0 (zstd's `contrib`).
enum ArchiveFormat {
  /// The maximum number of original bytes in one frame of the archives written here: 128 KiB of BF16 exponents are one
  /// block of zstd, and a few rows cost one such frame.
  static let pieceByteCount = 256 << 10
  /// The largest frame accepted in other tools' archives: bounds the memory of one read.
  static let largestPiece = 128 << 20
  /// The maximum number of frames in an archive that is read or written: 4.4 TB in pieces of full size. An index of
  /// them takes some 200 MB.
  static let mostFrames = 1 << 24
  /// The largest block of zstd.
  static let blockByteCount = 128 << 10
  /// The most that four bytes of a block can decompress to: no frame states more per byte.
  static let mostExpansion = blockByteCount / 4
  /// Windows up to 2 to this power are decoded: the default limit of the `zstd` program.
  static let largestWindowLog: Int32 = 27

  static let frameMagic: UInt32 = 0xFD2F_B528
  /// Sixteen kinds of skippable frames, told apart by the lowest four bits.
  static let skippableMagic: UInt32 = 0x184D_2A50
  static let skippableMask: UInt32 = 0xFFFF_FFF0
  static let skippableHeaderByteCount = 8

  /// The magic of the skippable frame that says how pieces are stored.
  static let mapMagic: UInt32 = 0x184D_2A5D
  static let mapSignature = Array("STEP3ZST".utf8)
  static let mapVersion: UInt16 = 1
  static let mapHeaderByteCount = 24
  static let runByteCount = 8

  static let seekTableMagic: UInt32 = 0x184D_2A5E
  static let seekTableFooterMagic: UInt32 = 0x8F92_EAB1
  static let seekTableFooterByteCount = 9
}

/// The lower half of XXH64, which zstd uses everywhere.
func checksum(of bytes: RawSpan) -> UInt32 {
  unsafe bytes.withUnsafeBytes { UInt32(truncatingIfNeeded: unsafe XXH64($0.baseAddress, $0.count, 0)) }
}

extension RawSpan {
  /// A little-endian number; the caller has checked that it is there.
  func load<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type, at offset: Int) -> Value {
    precondition(offset >= 0 && offset <= byteCount - MemoryLayout<Value>.size)
    return unsafe Value(littleEndian: unsafeLoadUnaligned(fromByteOffset: offset, as: type))
  }
}

extension [UInt8] {
  mutating func append(littleEndian value: some FixedWidthInteger) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) {
      append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }
}
