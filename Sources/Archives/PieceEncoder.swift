#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

internal import CZstd
internal import Quantization
public import TensorFormats

/// An encoded frame.
public struct ArchiveFrame: Hashable, Sendable {
  /// What it takes.
  public let byteCount: Int
  /// The number of original bytes that it holds.
  public let originalByteCount: Int
  /// The lower half of XXH64 of its content, which is the transformed original.
  public let checksum: UInt32

  package init(byteCount: Int, originalByteCount: Int, checksum: UInt32) {
    self.byteCount = byteCount
    self.originalByteCount = originalByteCount
    self.checksum = checksum
  }
}

/// Encodes pieces of files as zstd frames. The same piece, method and libzstd version give the same frame.
///
/// Frames are assembled here: the header, coded planes as blocks produced by libzstd, the others as stored or RLE
/// blocks. Any zstd decoder reads them.
///
/// Not thread-safe; each thread needs its own.
@safe public final class PieceEncoder {
  private let context: OpaquePointer
  private var coding: ArchiveMethod.Coding?
  /// A transformed piece.
  private let planes = Scratch()
  /// The frame being assembled.
  private var output: UnsafeMutableRawBufferPointer
  private var written = 0

  /// The version of libzstd, on which the bytes of frames depend.
  public static var libraryVersion: String { unsafe String(cString: ZSTD_versionString()) }

  /// Creates an encoder, which uses about a megabyte.
  public init() {
    guard let context = unsafe ZSTD_createCCtx() else { preconditionFailure("out of memory") }
    unsafe self.context = context
    unsafe output = UnsafeMutableRawBufferPointer(start: nil, count: 0)
  }

  deinit {
    _ = unsafe ZSTD_freeCCtx(context)
    unsafe output.deallocate()
  }

  /// Appends the frame of a piece.
  ///
  /// - Precondition: The piece has at least one and at most 2^27 bytes.
  /// - Throws: `.inputOutput` if libzstd fails, which means that it is out of memory.
  public func encode(
    _ piece: RawSpan, by method: ArchiveMethod, appendingTo frames: inout [UInt8]
  ) throws(CheckpointError) -> ArchiveFrame {
    precondition(piece.byteCount > 0 && piece.byteCount <= ArchiveFormat.largestPiece)
    reserve(piece.byteCount)
    guard method.transform != .none else {
      return try encode(arranged: piece, by: method, appendingTo: &frames)
    }
    arrange(piece, method.transform)
    let planes = self.planes
    return try encode(arranged: planes.bytes, by: method, appendingTo: &frames)
  }

  /// Appends the frame of an already transformed piece.
  private func encode(
    arranged content: RawSpan, by method: ArchiveMethod, appendingTo frames: inout [UInt8]
  ) throws(CheckpointError) -> ArchiveFrame {
    let checksum = checksum(of: content)
    writeHeader(contentByteCount: content.byteCount)
    let ranges = method.transform.planes(of: content.byteCount)
    if !method.coded.isEmpty {
      try begin(method.coding, byteCount: ranges[method.coded].reduce(0) { $0 + $1.count })
    }
    var lastHeader: Int?
    for (plane, range) in ranges.enumerated() where !range.isEmpty {
      let bytes = content.extracting(range)
      if method.coded.contains(plane) {
        try writeCoded(bytes, isFirst: plane == method.coded.lowerBound)
        lastHeader = nil
      } else {
        lastHeader = writeStored(bytes)
      }
    }
    if let lastHeader {
      unsafe output[lastHeader] |= 1
    } else {
      // Coded blocks are never marked as the last: an empty one is.
      write(1 as UInt32, byteCount: 3)
    }
    write(checksum, byteCount: 4)
    unsafe frames.append(contentsOf: UnsafeRawBufferPointer(rebasing: output[..<written]))
    return ArchiveFrame(byteCount: written, originalByteCount: content.byteCount, checksum: checksum)
  }

  /// The size of each plane of a piece, stored and coded.
  func planeSizes(
    of piece: RawSpan, _ transform: ArchiveTransform, _ coding: ArchiveMethod.Coding
  ) throws(CheckpointError) -> [(plain: Int, coded: Int)] {
    reserve(piece.byteCount)
    arrange(piece, transform)
    let planes = self.planes
    var sizes: [(plain: Int, coded: Int)] = []
    for range in transform.planes(of: piece.byteCount).prefix(transform.width) {
      written = 0
      try begin(coding, byteCount: range.count)
      let content = transform == .none ? piece : planes.bytes
      try writeCoded(content.extracting(range), isFirst: true)
      sizes.append((range.count, written))
    }
    return sizes
  }

  /// Reserves space for the largest possible encoding of a piece.
  private func reserve(_ byteCount: Int) {
    // Each plane may end with a block of its own.
    let needed = ZSTD_compressBound(byteCount) + 1024
    written = 0
    guard unsafe output.count < needed else { return }
    unsafe output.deallocate()
    unsafe output = .allocate(byteCount: needed, alignment: 64)
  }

  private func arrange(_ piece: RawSpan, _ transform: ArchiveTransform) {
    guard transform != .none else { return }
    planes.resize(to: piece.byteCount)
    planes.fill { BytePlanes.split(piece, width: transform.width, into: &$0) }
  }
}

// MARK: - Writing

extension PieceEncoder {
  private func write(_ value: some FixedWidthInteger, byteCount: Int) {
    for index in 0..<byteCount {
      unsafe output[written + index] = UInt8(truncatingIfNeeded: value >> (8 * index))
    }
    written += byteCount
  }

  /// The header of a frame whose window is its content, with a checksum at its end.
  private func writeHeader(contentByteCount count: Int) {
    write(ArchiveFormat.frameMagic, byteCount: 4)
    let singleSegmentWithChecksum: UInt8 = 1 << 5 | 1 << 2
    switch count {
    case ..<256:
      write(singleSegmentWithChecksum, byteCount: 1)
      write(count, byteCount: 1)
    case ..<(65_536 + 256):
      write(singleSegmentWithChecksum | 1 << 6, byteCount: 1)
      write(count - 256, byteCount: 2)
    default:
      write(singleSegmentWithChecksum | 2 << 6, byteCount: 1)
      write(count, byteCount: 4)
    }
  }

  /// Writes stored or RLE blocks.
  ///
  /// - Returns: The offset of the last block's header.
  private func writeStored(_ bytes: RawSpan) -> Int {
    var header = written
    for start in stride(from: 0, to: bytes.byteCount, by: ArchiveFormat.blockByteCount) {
      let count = min(ArchiveFormat.blockByteCount, bytes.byteCount - start)
      header = written
      unsafe bytes.extracting(start..<start + count).withUnsafeBytes { block in
        guard let first = block.baseAddress else { return }
        let isConstant = unsafe block.count > 4 && memcmp(first, first + 1, block.count - 1) == 0
        write(count << 3 | (isConstant ? 1 << 1 : 0), byteCount: 3)
        let kept = unsafe isConstant ? UnsafeRawBufferPointer(rebasing: block[..<1]) : block
        unsafe UnsafeMutableRawBufferPointer(rebasing: output[written..<written + kept.count]).copyMemory(
          from: kept)
        written += kept.count
      }
    }
    return header
  }

  /// Prepares for coded planes with the given total size.
  private func begin(_ coding: ArchiveMethod.Coding, byteCount: Int) throws(CheckpointError) {
    let isNew = self.coding != coding
    try check(
      unsafe ZSTD_CCtx_reset(context, isNew ? ZSTD_reset_session_and_parameters : ZSTD_reset_session_only))
    if isNew {
      let parameters: [(ZSTD_cParameter, Int32)] =
        switch coding {
        case .literals:
          [
            // As little match searching as possible, but with Huffman coding, which fast levels skip.
            (ZSTD_c_compressionLevel, -1000),
            (cZstdLiteralCompressionMode, Int32(ZSTD_lcm_huffman.rawValue)),
          ]
        case .matches: [(ZSTD_c_compressionLevel, 3)]
        }
      for (parameter, value) in parameters + [(ZSTD_c_contentSizeFlag, 0), (ZSTD_c_checksumFlag, 0)] {
        try check(unsafe ZSTD_CCtx_setParameter(context, parameter, value))
      }
      self.coding = coding
    }
    try check(unsafe ZSTD_CCtx_setPledgedSrcSize(context, UInt64(byteCount)))
  }

  /// Writes blocks produced by libzstd. Repeat offsets and tables carry over from plane to plane, as in the decoder.
  private func writeCoded(_ bytes: RawSpan, isFirst: Bool) throws(CheckpointError) {
    let start = written
    let remaining = unsafe bytes.withUnsafeBytes { source in
      var input = unsafe ZSTD_inBuffer(src: source.baseAddress, size: source.count, pos: 0)
      var target = unsafe ZSTD_outBuffer(
        dst: output.baseAddress! + start, size: output.count - start, pos: 0)
      let result = unsafe ZSTD_compressStream2(context, &target, &input, ZSTD_e_flush)
      written += unsafe target.pos
      return result
    }
    try check(remaining)
    guard remaining == 0 else {
      throw CheckpointError(.inputOutput, "zstd needs more space than it announced")
    }
    // Its header is replaced by ours.
    guard isFirst else { return }
    let header = unsafe ZSTD_frameHeaderSize(output.baseAddress! + start, written - start)
    try check(header)
    unsafe memmove(
      output.baseAddress! + start, output.baseAddress! + start + header, written - start - header)
    written -= header
  }

  private func check(_ result: Int) throws(CheckpointError) {
    guard ZSTD_isError(result) != 0 else { return }
    throw CheckpointError(
      .inputOutput, "zstd cannot compress: \(unsafe String(cString: ZSTD_getErrorName(result)))")
  }
}
