internal import CImageShims
internal import TensorFormats

/// A PNG file: its header, validated here before anything is allocated, and its samples through libpng.
///
/// libpng's simplified interface is unsuitable: it applies gamma and composites transparency, both unlike
/// Pillow. Source of the layout: W3C PNG specification, 3rd edition, clauses 5 and 11.
struct PNGFile {
  private static let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
  private static let greyscale = 0

  let width: Int
  let height: Int
  let orientation: Orientation?
  private let bytes: [UInt8]
  private let depth: Int
  private let colourType: Int

  static func isSignature(_ bytes: [UInt8]) -> Bool { bytes.starts(with: signature) }

  /// Reads the header.
  ///
  /// - Throws: `.truncated`, `.malformed`.
  init(_ bytes: [UInt8]) throws(CheckpointError) {
    guard bytes.count >= 33 else {
      throw CheckpointError(.truncated, "the PNG header ends early", offset: bytes.count)
    }
    guard bytes.bigEndian32(at: 8) == 13, bytes[12..<16].elementsEqual("IHDR".utf8) else {
      throw CheckpointError(.malformed, "a PNG file must start with its header chunk IHDR", offset: 8)
    }
    width = bytes.bigEndian32(at: 16)
    height = bytes.bigEndian32(at: 20)
    depth = Int(bytes[24])
    colourType = Int(bytes[25])
    let samples = [0: 1, 2: 3, 3: 1, 4: 2, 6: 4][colourType]
    guard let samples, [1, 2, 4, 8, 16].contains(depth) else {
      throw CheckpointError(
        .malformed, "colour type \(colourType) with \(depth) bits per sample does not exist in PNG",
        offset: 24)
    }
    // Deflate compresses by at most 1032, so the header cannot claim more than the file can hold.
    let rowBytes = (width * samples * depth + 7) / 8 + 1
    guard rowBytes.multipliedReportingOverflow(by: height).overflow == false,
      rowBytes * height / 1032 <= bytes.count
    else {
      throw CheckpointError(
        .truncated, "\(width) x \(height) pixels do not fit into a PNG file of \(bytes.count) bytes",
        offset: 16)
    }
    self.bytes = bytes
    orientation = PNGFile.orientation(bytes)
  }

  /// Decodes the samples.
  ///
  /// - Throws: `.truncated` or `.malformed`, with libpng's message.
  func decode(overWhite: Bool) throws(CheckpointError) -> RGBImage {
    if depth == 16 && colourType == PNGFile.greyscale {
      let samples = try decode(CIS_GRAY16, bytesPerPixel: 2)
      var pixels: [UInt8] = []
      pixels.reserveCapacity(width * height * 3)
      for pixel in stride(from: 0, to: samples.count, by: 2) {
        let value: UInt8 = samples[pixel] == 0 ? samples[pixel + 1] : 255
        for _ in 0..<3 { pixels.append(value) }
      }
      return RGBImage(height: height, width: width, pixels: pixels)
    }
    guard overWhite else {
      return RGBImage(height: height, width: width, pixels: try decode(CIS_RGB, bytesPerPixel: 3))
    }
    let samples = try decode(CIS_RGBA, bytesPerPixel: 4)
    var pixels: [UInt8] = []
    pixels.reserveCapacity(width * height * 3)
    for pixel in stride(from: 0, to: samples.count, by: 4) {
      let alpha = UInt32(samples[pixel + 3])
      for channel in 0..<3 {
        pixels.append(dividedBy255(UInt32(samples[pixel + channel]) * alpha + 255 * (255 - alpha)))
      }
    }
    return RGBImage(height: height, width: width, pixels: pixels)
  }

  private func decode(_ layout: cis_layout, bytesPerPixel: Int) throws(CheckpointError) -> [UInt8] {
    var pixels = [UInt8](repeating: 0, count: width * height * bytesPerPixel)
    var message = [CChar](repeating: 0, count: 200)
    let status = unsafe cis_decode_png(
      bytes, bytes.count, UInt32(width), UInt32(height), CInt(layout.rawValue), &pixels,
      width * bytesPerPixel, &message, message.count)
    if status != 0 {
      let text = String(
        decoding: message.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
      throw CheckpointError(
        text.contains("ends early") ? .truncated : .malformed, "the PNG cannot be decoded: \(text.printable)")
    }
    return pixels
  }

  /// The orientation from the eXIf chunk, or else from an uncompressed XMP packet.
  private static func orientation(_ bytes: [UInt8]) -> Orientation? {
    var offset = signature.count
    var exif: Orientation?
    var xmp: Orientation?
    while offset <= bytes.count - 12 {
      let length = bytes.bigEndian32(at: offset)
      guard length <= bytes.count - offset - 12 else { break }
      let content = bytes[(offset + 8)..<(offset + 8 + length)]
      let name = bytes[(offset + 4)..<(offset + 8)]
      if name.elementsEqual("eXIf".utf8) {
        exif = Orientation(exif: content)
      } else if name.elementsEqual("iTXt".utf8), content.starts(with: Array("XML:com.adobe.xmp\0\0".utf8)) {
        xmp = Orientation(xmp: content)
      }
      offset += 12 + length
    }
    return exif ?? xmp
  }
}

/// `value` / 255, rounded, for values up to 255 * 255, in Pillow's arithmetic.
func dividedBy255(_ value: UInt32) -> UInt8 {
  let sum = value + 128
  return UInt8(truncatingIfNeeded: ((sum >> 8) + sum) >> 8)
}
