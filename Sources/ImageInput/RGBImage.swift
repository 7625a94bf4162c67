/// A picture of 8-bit samples.
public struct RGBImage: Hashable, Sendable {
  /// Rows.
  public let height: Int
  /// Columns.
  public let width: Int
  /// Red, green and blue of every pixel, shape [height, width, 3], row-major, from the top left.
  public let pixels: [UInt8]

  /// Creates a picture from its samples.
  ///
  /// - Parameter pixels: height * width * 3 samples.
  public init(height: Int, width: Int, pixels: [UInt8]) {
    precondition(
      height > 0 && width > 0 && pixels.count == height * width * 3, "the sample count must match the size")
    self.height = height
    self.width = width
    self.pixels = pixels
  }

  /// The square of `side` pixels whose top left corner is at (`x`, `y`); black outside the picture.
  func square(x: Int, y: Int, side: Int) -> RGBImage {
    if x == 0 && y == 0 && side == width && side == height { return self }
    var result = [UInt8](repeating: 0, count: side * side * 3)
    let columns = max(0, min(side, width - x))
    for row in 0..<max(0, min(side, height - y)) {
      let from = ((y + row) * width + x) * 3
      let to = row * side * 3
      result.replaceSubrange(to..<(to + columns * 3), with: pixels[from..<(from + columns * 3)])
    }
    return RGBImage(height: side, width: side, pixels: result)
  }
}
