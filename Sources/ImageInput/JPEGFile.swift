internal import CTurboJPEG
internal import TensorFormats

/// A JPEG file: its markers, read here for the sizes and the orientation, and its samples through libjpeg-turbo.
///
/// Source of the layout: ITU-T T.81, B.1 and B.2.
struct JPEGFile {
  private(set) var width = 0
  private(set) var height = 0
  private(set) var orientation: Orientation?
  private let bytes: [UInt8]
  private var components = 0
  private var scanOffset = 0
  private var scanCount = 0

  /// A progressive picture is decoded once per scan. Encoders usually write ten.
  private static let mostScans = 64

  /// The approximate memory for decoding: 16-bit coefficients if there are several scans, the samples, and RGB.
  var bytesPerPixel: Int { components * (scanCount > 1 ? 3 : 1) + 6 }

  static func isSignature(_ bytes: [UInt8]) -> Bool { bytes.starts(with: [0xFF, 0xD8, 0xFF]) }

  /// Reads the markers up to the first scan.
  ///
  /// - Throws: `.truncated`, `.malformed`, `.unsupported`.
  init(_ bytes: [UInt8]) throws(CheckpointError) {
    self.bytes = bytes
    var exif: [UInt8] = []
    var xmp: ArraySlice<UInt8> = []
    var offset = 2
    while true {
      while offset < bytes.count && bytes[offset] != 0xFF { offset += 1 }
      while offset < bytes.count && bytes[offset] == 0xFF { offset += 1 }
      guard offset < bytes.count else { throw JPEGFile.cutOff(bytes.count) }
      let marker = bytes[offset]
      offset += 1
      // A stuffed zero, or a marker without a segment.
      if marker == 0 || marker == 0x01 || (0xD0...0xD8).contains(marker) { continue }
      guard marker != 0xD9 else {
        throw CheckpointError(.malformed, "the JPEG ends before its image data", offset: offset)
      }
      guard offset <= bytes.count - 2 else { throw JPEGFile.cutOff(bytes.count) }
      let length = bytes.bigEndian16(at: offset)
      guard length >= 2 else {
        throw CheckpointError(
          .malformed, "a JPEG segment has the impossible length \(length)", offset: offset)
      }
      guard length <= bytes.count - offset else { throw JPEGFile.cutOff(bytes.count) }
      let content = bytes[(offset + 2)..<(offset + length)]
      switch marker {
      case 0xDA:
        scanOffset = offset
      case 0xC0...0xC3, 0xC5...0xC7, 0xC9...0xCB, 0xCD...0xCF:
        try readFrame(content, at: offset)
      case 0xE1 where content.starts(with: Array("Exif\0\0".utf8)):
        // A block that does not fit in one segment continues in the next.
        exif += exif.isEmpty ? content : content.dropFirst(6)
      case 0xE1 where content.starts(with: Array("http://ns.adobe.com/xap/1.0/\0".utf8)):
        xmp = content
      default: break
      }
      if scanOffset > 0 { break }
      offset += length
    }
    guard width > 0, height > 0 else {
      throw CheckpointError(.malformed, "the JPEG has no frame header with a size", offset: scanOffset)
    }
    // One bit of Huffman code represents at most 128 pixels (a block subsampled by four in both directions in an
    // image of flat colour), so a header cannot claim much more than the file can hold.
    guard width * height / 4096 <= bytes.count else {
      throw CheckpointError(
        .truncated, "\(width) x \(height) pixels do not fit into a JPEG file of \(bytes.count) bytes",
        offset: scanOffset)
    }
    // Coded data cannot contain a marker.
    scanCount = zip(bytes[(scanOffset - 2)...], bytes[(scanOffset - 1)...]).reduce(0) {
      $0 + ($1 == (0xFF, 0xDA) ? 1 : 0)
    }
    guard scanCount <= Self.mostScans, scanCount == 1 || scanCount * width * height <= 1 << 30 else {
      throw CheckpointError(
        .unsupported,
        "the JPEG has \(scanCount) scans of \(width) x \(height) pixels; the limit is \(Self.mostScans), and 2^30 pixels in total"
          + "are read", offset: scanOffset, remedy: "write it again without progressive scans")
    }
    orientation = Orientation(exif: exif[...]) ?? Orientation(xmp: xmp)
  }

  private mutating func readFrame(_ content: ArraySlice<UInt8>, at offset: Int) throws(CheckpointError) {
    guard content.count >= 6, width == 0 else {
      throw CheckpointError(.malformed, "the JPEG's frame header is damaged", offset: offset)
    }
    let start = content.startIndex
    guard content[start] == 8 else {
      throw CheckpointError(
        .unsupported, "JPEG with \(content[start]) bits per sample is not supported, only 8", offset: offset)
    }
    height = bytes.bigEndian16(at: start + 1)
    width = bytes.bigEndian16(at: start + 3)
    components = Int(content[start + 5])
  }

  private static func cutOff(_ count: Int) -> CheckpointError {
    CheckpointError(.truncated, "the JPEG ends before its image data", offset: count)
  }

  /// Decodes the samples: exact integer DCT, smooth upsampling of chroma, as in Pillow.
  ///
  /// - Throws: `.truncated`, `.malformed`, `.unsupported`.
  func decode() throws(CheckpointError) -> RGBImage {
    switch components {
    case 1, 3:
      return RGBImage(height: height, width: width, pixels: try decode(TJPF_RGB, bytesPerPixel: 3))
    case 4: return rgb(cmyk: try decode(TJPF_CMYK, bytesPerPixel: 4))
    default:
      throw CheckpointError(
        .unsupported, "JPEG with \(components) components is not supported, only 1, 3 and 4")
    }
  }

  private func decode(_ format: TJPF, bytesPerPixel: Int) throws(CheckpointError) -> [UInt8] {
    guard let decoder = unsafe tjInitDecompress() else {
      throw CheckpointError(.inputOutput, "cannot create the JPEG decoder: out of memory")
    }
    defer { unsafe tjDestroy(decoder) }
    // The decoder's sizes must match those that memory is about to be allocated for.
    var (columns, rows, sampling, space): (CInt, CInt, CInt, CInt) = (0, 0, 0, 0)
    let headerStatus = unsafe tjDecompressHeader3(
      decoder, bytes, UInt(bytes.count), &columns, &rows, &sampling, &space)
    guard columns == width, rows == height else {
      let reason = headerStatus == 0 ? "its headers give different sizes" : unsafe errorText(decoder)
      throw CheckpointError(.malformed, "the JPEG cannot be decoded: \(reason)")
    }
    var pixels = [UInt8](repeating: 0, count: width * height * bytesPerPixel)
    let status = unsafe tjDecompress2(
      decoder, bytes, UInt(bytes.count), &pixels, CInt(width), CInt(width * bytesPerPixel), CInt(height),
      CInt(format.rawValue), CInt(TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS))
    guard status != 0 else { return pixels }
    let text = unsafe errorText(decoder)
    // Damage that the decoder recovers from is accepted, as in Pillow; an incomplete picture is not.
    guard unsafe tjGetErrorCode(decoder) == CInt(TJERR_WARNING.rawValue) else {
      throw CheckpointError(.malformed, "the JPEG cannot be decoded: \(text)", offset: scanOffset)
    }
    guard hasEnd else {
      throw CheckpointError(.truncated, "the JPEG ends early: \(text)", offset: bytes.count)
    }
    return pixels
  }

  @unsafe private func errorText(_ decoder: tjhandle) -> String {
    guard let text = unsafe tjGetErrorStr2(decoder) else { return "no reason given" }
    return unsafe String(cString: text).printable
  }

  /// Whether an end marker follows the first scan: coded data cannot contain one.
  private var hasEnd: Bool {
    let last = bytes.count - 1
    return (scanOffset..<last).reversed().contains { bytes[$0] == 0xFF && bytes[$0 + 1] == 0xD9 }
  }

  /// Pillow's conversion: the file holds inverted ink, and each channel is the inverted black minus that ink's
  /// share.
  private func rgb(cmyk samples: [UInt8]) -> RGBImage {
    var pixels: [UInt8] = []
    pixels.reserveCapacity(width * height * 3)
    for pixel in stride(from: 0, to: samples.count, by: 4) {
      let light = UInt32(samples[pixel + 3])
      for channel in 0..<3 {
        let ink = 255 - UInt32(samples[pixel + channel])
        pixels.append(UInt8(light) - dividedBy255(ink * light))
      }
    }
    return RGBImage(height: height, width: width, pixels: pixels)
  }
}
