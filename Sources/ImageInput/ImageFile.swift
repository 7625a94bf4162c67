internal import ByteStreams
public import TensorFormats

/// How a picture file becomes red, green and blue: the points at which the published processor and the servers differ.
public struct ImageReading: Hashable, Sendable {
  /// What becomes of pixels that are not opaque.
  public enum Transparency: Hashable, Sendable {
    /// Their colour counts, however transparent it is.
    case discarded
    /// They are laid over white.
    case overWhite
  }

  /// What becomes of pixels that are not opaque.
  public var transparency: Transparency
  /// Whether the picture is turned as EXIF (or else XMP) says.
  public var appliesOrientation: Bool
  /// Pictures of more pixels are refused before anything is allocated for them. 89,478,485 pixels, a quarter of a
  /// gigabyte as RGB, is where Pillow begins to warn of decompression bombs; the processor scales everything to
  /// 3024 pixels a side anyway.
  public var pixelLimit = 89_478_485

  /// Makes a choice of one's own.
  public init(transparency: Transparency, appliesOrientation: Bool) {
    self.transparency = transparency
    self.appliesOrientation = appliesOrientation
  }

  /// As the published processor reads files, through transformers' `load_image`: EXIF orientation, then Pillow's
  /// `convert("RGB")`, which drops transparency.
  public static let published = ImageReading(transparency: .discarded, appliesOrientation: true)
  /// As vLLM reads them (since June 2026; before, it ignored EXIF and laid only RGBA pictures over white).
  public static let vLLM = ImageReading(transparency: .overWhite, appliesOrientation: true)
  /// As SGLang reads them: `convert("RGB")` alone.
  public static let sgLang = ImageReading(transparency: .discarded, appliesOrientation: false)
}

/// What a picture file's header says, before anything is decoded.
public struct ImageHeader: Hashable, Sendable {
  /// The columns of the picture as it will be, turned where it asks for that.
  public let width: Int
  /// The rows.
  public let height: Int
  /// About the most memory that decoding takes, the picture itself included.
  public let decodingBytes: Int

  package init(width: Int, height: Int, decodingBytes: Int) {
    self.width = width
    self.height = height
    self.decodingBytes = decodingBytes
  }
}

/// Reads picture files: PNG and JPEG, to the samples that Pillow makes of them, bit for bit.
///
/// Colour profiles and gamma are ignored, as Pillow's `convert("RGB")` does. 16-bit greyscale saturates at 255,
/// because Pillow's conversion clips; other 16-bit samples keep their high byte. CMYK is taken as inverted (as Adobe
/// writes it) and converted without a profile. Files that are cut off or whose PNG checksums do not fit are refused,
/// where Pillow lets some of them pass.
public enum ImageFile {
  /// Reads a file.
  ///
  /// - Parameter judge: Called with the header before anything is decoded; what it throws is thrown.
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
        .unsupported, "the file has \(file.byteCount) bytes; pictures of up to \(limit) are read", path: path,
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
  /// - Parameter judge: Called with the header before anything is decoded; what it throws is thrown.
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
      // Rows of any depth are one at a time; a turned picture is there twice.
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
        .unsupported, "the picture has \(width) x \(height) pixels; up to \(limit) are read",
        remedy: "scale the picture down")
    }
  }
}

extension [UInt8] {
  /// Two bytes from `offset`, most significant first. The caller has checked that they are there.
  func bigEndian16(at offset: Int) -> Int { Int(self[offset]) << 8 | Int(self[offset + 1]) }

  /// Four bytes from `offset`, most significant first. The caller has checked that they are there.
  func bigEndian32(at offset: Int) -> Int { bigEndian16(at: offset) << 16 | bigEndian16(at: offset + 2) }
}
