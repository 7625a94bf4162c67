internal import ByteStreams
public import TensorFormats

/// How a picture file is converted to RGB: the choices on which the published processor and the servers differ.
public struct ImageReading: Hashable, Sendable {
  /// How pixels that are not opaque are converted.
  public enum Transparency: Hashable, Sendable {
    /// Alpha is dropped: the colour is used, however transparent.
    case discarded
    /// They are composited over white.
    case overWhite
  }

  /// How pixels that are not opaque are converted.
  public var transparency: Transparency
  /// Whether the EXIF (or else XMP) orientation is applied.
  public var appliesOrientation: Bool
  /// Pictures with more pixels are refused before anything is allocated for them. 89,478,485 pixels, a quarter of
  /// a gigabyte as RGB, is where Pillow starts to warn about decompression bombs; the processor scales everything
  /// to 3024 pixels a side anyway.
  public var pixelLimit = 89_478_485

  /// Creates a custom configuration.
  public init(transparency: Transparency, appliesOrientation: Bool) {
    self.transparency = transparency
    self.appliesOrientation = appliesOrientation
  }

  /// As the published processor reads files, through transformers' `load_image`: EXIF orientation, then Pillow's
  /// `convert("RGB")`, which drops transparency.
  public static let published = ImageReading(transparency: .discarded, appliesOrientation: true)
  /// As vLLM reads them (since June 2026; before, it ignored EXIF and composited only RGBA pictures over white).
  public static let vLLM = ImageReading(transparency: .overWhite, appliesOrientation: true)
  /// As SGLang reads them: `convert("RGB")` alone.
  public static let sgLang = ImageReading(transparency: .discarded, appliesOrientation: false)
}

/// A picture file's header, read before anything is decoded.
public struct ImageHeader: Hashable, Sendable {
  /// The columns of the decoded picture, after applying its orientation.
  public let width: Int
  /// The rows.
  public let height: Int
  /// The approximate peak memory of decoding, including the picture itself.
  public let decodingBytes: Int

  package init(width: Int, height: Int, decodingBytes: Int) {
    self.width = width
    self.height = height
    self.decodingBytes = decodingBytes
  }
}

/// Reads picture files: PNG and JPEG, with samples bit-identical to Pillow's.
///
/// Colour profiles and gamma are ignored, as Pillow's `convert("RGB")` does. 16-bit greyscale saturates at 255,
/// because Pillow's conversion clips; other 16-bit samples keep their high byte. CMYK is taken as inverted (as Adobe
/// writes it) and converted without a profile. Truncated files and wrong PNG checksums are refused, though Pillow
/// accepts some of them.
public enum ImageFile {
  /// Reads a file.
  ///
  /// - Parameter judge: Called with the header before anything is decoded; its errors are rethrown.
  /// - Throws: `.notFound`; `.unsupported` if it is neither PNG nor JPEG, or too large; `.truncated`, `.malformed`.
  public static func read(
    _ path: String, as reading: ImageReading = .published,
    judging judge: (ImageHeader) throws(CheckpointError) -> Void = { _ in }
  ) throws(CheckpointError) -> RGBImage {
    let file = try InputFile(path)
    // Even uncompressed 16-bit RGBA of the largest picture has no more bytes.
    let limit = max(1 << 20, reading.pixelLimit * 9)
    guard file.byteCount <= limit else {
      throw CheckpointError(
        .unsupported, "the file has \(file.byteCount) bytes, the limit is \(limit)", path: path,
        remedy: "scale the picture down")
    }
    let bytes = try file.readBytes(0..<file.byteCount)
    do {
      return try decode(bytes, as: reading, judging: judge)
    } catch {
      throw error.at(path: path)
    }
  }

  /// Decodes the bytes of a file.
  ///
  /// - Parameter judge: Called with the header before anything is decoded; its errors are rethrown.
  /// - Throws: `.unsupported` if they are neither PNG nor JPEG, or too large; `.truncated`, `.malformed`.
  public static func decode(
    _ bytes: [UInt8], as reading: ImageReading = .published,
    judging judge: (ImageHeader) throws(CheckpointError) -> Void = { _ in }
  ) throws(CheckpointError) -> RGBImage {
    func header(_ width: Int, _ height: Int, _ orientation: Orientation?, bytesPerPixel: Int) -> ImageHeader {
      let isTurned = reading.appliesOrientation && (orientation?.exchangesSides ?? false)
      return ImageHeader(
        width: isTurned ? height : width, height: isTurned ? width : height,
        decodingBytes: width * height * bytesPerPixel)
    }
    let image: RGBImage
    let orientation: Orientation?
    if PNGFile.isSignature(bytes) {
      let file = try PNGFile(bytes)
      try check(width: file.width, height: file.height, reading.pixelLimit)
      // Rows are decoded one at a time, at any depth; a rotated picture is held twice.
      try judge(header(file.width, file.height, file.orientation, bytesPerPixel: 8))
      image = try file.decode(overWhite: reading.transparency == .overWhite)
      orientation = file.orientation
    } else if JPEGFile.isSignature(bytes) {
      let file = try JPEGFile(bytes)
      try check(width: file.width, height: file.height, reading.pixelLimit)
      try judge(header(file.width, file.height, file.orientation, bytesPerPixel: file.bytesPerPixel))
      image = try file.decode()
      orientation = file.orientation
    } else if bytes.isEmpty {
      throw CheckpointError(.truncated, "the file is empty", offset: 0)
    } else {
      throw CheckpointError(
        .unsupported, "is neither a PNG nor a JPEG picture", offset: 0, remedy: "convert it to PNG")
    }
    return reading.appliesOrientation ? (orientation ?? .upright).applied(to: image) : image
  }

  private static func check(width: Int, height: Int, _ limit: Int) throws(CheckpointError) {
    guard width > 0, height > 0 else {
      throw CheckpointError(.malformed, "the picture has \(width) x \(height) pixels")
    }
    guard width <= limit / height else {
      throw CheckpointError(
        .unsupported, "the picture has \(width) x \(height) pixels, the limit is \(limit)",
        remedy: "scale the picture down")
    }
  }
}

extension [UInt8] {
  /// Two bytes from `offset`, most significant first. The caller has checked the bounds.
  func bigEndian16(at offset: Int) -> Int { Int(self[offset]) << 8 | Int(self[offset + 1]) }

  /// Four bytes from `offset`, most significant first. The caller has checked the bounds.
  func bigEndian32(at offset: Int) -> Int { bigEndian16(at: offset) << 16 | bigEndian16(at: offset + 2) }
}
