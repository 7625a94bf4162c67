internal import CZstd
internal import Quantization
package import TensorFormats

/// Decodes single frames into buffers of their size: no window is allocated, whatever a frame asks for.
///
/// `@unchecked Sendable`: used by one thread at a time, the one that took it from its pool.
@safe package final class PieceDecoder: @unchecked Sendable {
  private let context: OpaquePointer
  private let planes = Scratch()

  package init() {
    guard let context = unsafe ZSTD_createDCtx() else { preconditionFailure("out of memory") }
    unsafe self.context = context
  }

  deinit { _ = unsafe ZSTD_freeDCtx(context) }

  /// Decodes a frame.
  ///
  /// - Parameters:
  ///   - frame: The complete frame.
  ///   - checksum: The expected checksum of its content, in addition to the frame's own; `nil` if none is known.
  ///   - isOurs: Whether the frame must have a checksum of its own.
  ///   - target: As long as the content.
  /// - Throws: `.malformed` for anything else. The error has no offset.
  package func decode(
    _ frame: RawSpan, _ transform: ArchiveTransform, checksum expected: UInt32?, isOurs: Bool,
    into target: inout MutableRawSpan
  ) throws(CheckpointError) {
    let header = try FrameHeader(frame)
    guard header.contentByteCount == nil || header.contentByteCount == UInt64(target.byteCount) else {
      throw CheckpointError(
        .malformed,
        "the frame states \(header.contentByteCount ?? 0) bytes, the table has \(target.byteCount)")
    }
    guard header.hasChecksum || !isOurs else {
      throw CheckpointError(.malformed, "the frame has no checksum")
    }
    // libzstd compares the content with it. A different one in the table means that another frame belongs here.
    if header.hasChecksum, frame.byteCount >= 4, let expected {
      let own = unsafe frame.unsafeLoadUnaligned(fromByteOffset: frame.byteCount - 4, as: UInt32.self)
      guard UInt32(littleEndian: own) == expected else {
        throw CheckpointError(.malformed, "the frame's checksum is not the one in the table")
      }
    }
    let length = unsafe frame.withUnsafeBytes {
      unsafe ZSTD_findFrameCompressedSize($0.baseAddress, $0.count)
    }
    guard ZSTD_isError(length) == 0, length == frame.byteCount else {
      throw CheckpointError(
        .malformed, "the frame does not have the \(frame.byteCount) bytes stated in the table")
    }
    if transform == .none {
      try decode(frame, into: &target)
      try check(target.bytes, expected, header)
    } else {
      let planes = self.planes
      planes.resize(to: target.byteCount)
      try planes.fill { (bytes: inout MutableRawSpan) throws(CheckpointError) in
        try decode(frame, into: &bytes)
      }
      try check(planes.bytes, expected, header)
      BytePlanes.join(planes.bytes, width: transform.width, into: &target)
    }
  }

  private func decode(_ frame: RawSpan, into target: inout MutableRawSpan) throws(CheckpointError) {
    let wanted = target.byteCount
    let result = unsafe frame.withUnsafeBytes { source in
      unsafe target.withUnsafeMutableBytes { target in
        unsafe ZSTD_decompressDCtx(
          context, target.baseAddress, target.count, source.baseAddress, source.count)
      }
    }
    guard ZSTD_isError(result) == 0 else {
      throw CheckpointError(
        .malformed, "the frame is damaged: \(unsafe String(cString: ZSTD_getErrorName(result)))")
    }
    guard result == wanted else {
      throw CheckpointError(.malformed, "the frame has \(result) bytes, the table has \(wanted)")
    }
  }

  /// libzstd has already checked the frame's own checksum.
  private func check(_ content: RawSpan, _ expected: UInt32?, _ header: FrameHeader) throws(CheckpointError) {
    guard let expected, !header.hasChecksum, checksum(of: content) != expected else { return }
    throw CheckpointError(.malformed, "the frame does not match the checksum in the table")
  }
}

/// A frame header.
struct FrameHeader {
  /// `nil` if it is not stated.
  let contentByteCount: UInt64?
  let hasChecksum: Bool
  let byteCount: Int

  /// The longest header.
  static let mostBytes = 18

  /// - Throws: `.malformed` if this is not a zstd frame.
  init(_ bytes: RawSpan) throws(CheckpointError) {
    var header = ZSTD_frameHeader()
    let result = unsafe bytes.withUnsafeBytes {
      unsafe ZSTD_getFrameHeader(&header, $0.baseAddress, $0.count)
    }
    guard result == 0, header.frameType == ZSTD_frame else {
      throw CheckpointError(.malformed, "there is no zstd frame")
    }
    let size = header.frameContentSize
    // The value for "unknown" is a macro that Swift cannot import.
    contentByteCount = size == UInt64.max ? nil : size
    hasChecksum = header.checksumFlag != 0
    byteCount = Int(header.headerSize)
  }
}
