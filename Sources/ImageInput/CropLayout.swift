public import TensorFormats

/// When and how the published processor crops a picture. Lengths in pixels.
public struct CropRule: Hashable, Sendable {
  /// Whether crops are made at all.
  public var cropsPictures = true
  /// A picture whose long side is at most this is cropped only if its long side is more than 1.5 times its short side.
  public var wholeLimit = 728
  /// The side of a crop, before it is resized for the encoder. Narrow pictures get smaller crops.
  public var window = 504
  /// Pictures are first scaled down to this long side.
  public var longestSide = 3024
  /// Pictures with a short side below this and an aspect ratio above four are first padded to a square.
  public var thinSide = 32

  /// The published rule.
  public init() {}

  /// The rule of the published processor, which SGLang shares.
  public static let published = CropRule()
  /// vLLM's rule: a picture of exactly 728 pixels is cropped too.
  public static let vLLM: CropRule = {
    var rule = CropRule()
    rule.wholeLimit = 727
    return rule
  }()
}

/// The layout of a picture of a given size: how it is padded and scaled down, and the grid of its crops.
///
/// Depends on the size alone, so that prompts can be laid out without decoding a picture.
public struct CropLayout: Hashable, Sendable {
  /// The side of the square that the picture is padded to, on the right and bottom, in black; `nil` if it is not
  /// padded.
  public let paddedSide: Int?
  /// The size of the whole picture before it is resized for the encoder.
  public let wholeWidth: Int
  public let wholeHeight: Int
  /// The size of the picture that crops are cut from; the same as the whole picture's if there are none.
  public let cropWidth: Int
  public let cropHeight: Int
  /// The side of a crop; 0 if there are none. Crops are black beyond the picture's edge.
  public let window: Int
  /// The number of crops in a row.
  public let columns: Int
  /// The number of rows of crops.
  public let rows: Int

  /// The number of crops, which are ordered row by row from the top left.
  public var count: Int { columns * rows }

  /// Whether the prompt starts a new line after a crop: at the end of every row but the last.
  public func breaksLine(after crop: Int) -> Bool { (crop + 1) % columns == 0 && crop + 1 < count }

  /// Lays out a picture.
  ///
  /// Source: StepFun's published processor (`ImagePatcher`), as also in vLLM and SGLang.
  /// - Throws: `.unsupported` if the picture is so narrow that its short side vanishes, or that padding it would exceed
  ///   4 * 3024 pixels a side.
  public init(width: Int, height: Int, rule: CropRule = .published) throws(CheckpointError) {
    precondition(width > 0 && height > 0, "a picture must have pixels")
    var (width, height) = (width, height)
    let ratio = Double(width) / Double(height)
    if min(width, height) < rule.thinSide && (ratio > 4 || ratio < 0.25) {
      width = max(width, height)
      height = width
      // The square exists in memory before it is scaled down.
      guard width <= 4 * rule.longestSide else { throw CropLayout.tooNarrow }
      paddedSide = width
    } else {
      paddedSide = nil
    }
    if max(width, height) > rule.longestSide {
      let scale = Double(rule.longestSide) / Double(max(width, height))
      (width, height) = (Int(Double(width) * scale), Int(Double(height) * scale))
      guard width > 0, height > 0 else { throw CropLayout.tooNarrow }
    }
    wholeWidth = width
    wholeHeight = height
    window = rule.cropsPictures ? CropLayout.window(width, height, rule) : 0
    guard window > 0 else {
      (cropWidth, cropHeight, columns, rows) = (width, height, 0, 0)
      return
    }
    cropWidth = CropLayout.fitted(width, window)
    cropHeight = CropLayout.fitted(height, window)
    columns = max(1, cropWidth / window)
    rows = max(1, cropHeight / window)
  }

  private static let tooNarrow = CheckpointError(
    .unsupported, "the picture is too narrow: its short side would vanish",
    remedy: "cut it into pieces with a smaller aspect ratio")

  private static func window(_ width: Int, _ height: Int, _ rule: CropRule) -> Int {
    let (long, short) = (max(width, height), min(width, height))
    let ratio = Double(long) / Double(short)
    if long <= rule.wholeLimit { return ratio > 1.5 ? short : 0 }
    return ratio > 4 ? min(short, rule.window) : rule.window
  }

  /// Rounds a length to a multiple of the window, up if the remainder is more than a fifth of a window; shorter
  /// lengths are unchanged.
  private static func fitted(_ length: Int, _ window: Int) -> Int {
    guard length >= window else { return length }
    let left = Double(length) / Double(window) - Double(length / window)
    return window * (length / window + (left > 0.2 ? 1 : 0))
  }
}
