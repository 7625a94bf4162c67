/// The orientation of a camera picture: the eight values of the EXIF tag 0x0112.
///
/// Source: Exif 2.32, 4.6.4 A "Orientation".
enum Orientation: Int {
  case upright = 1
  case mirrored, turnedHalf, upsideDown, transposed, turnedRight, transversed, turnedLeft

  /// Reads it from an EXIF block: a TIFF header and the first directory.
  ///
  /// - Returns: `nil` if the block does not give it or is damaged: the picture is then left unchanged.
  init?(exif block: ArraySlice<UInt8>) {
    var tiff = block
    while tiff.starts(with: [0x45, 0x78, 0x69, 0x66, 0, 0]) { tiff = tiff.dropFirst(6) }
    let bigEndian: Bool
    if tiff.starts(with: [0x4D, 0x4D, 0, 42]) {
      bigEndian = true
    } else if tiff.starts(with: [0x49, 0x49, 42, 0]) {
      bigEndian = false
    } else {
      return nil
    }
    func integer(at offset: Int, bytes count: Int) -> Int? {
      guard offset <= tiff.count - count else { return nil }
      let start = tiff.startIndex + offset
      let bytes = tiff[start..<(start + count)]
      return (bigEndian ? Array(bytes) : bytes.reversed()).reduce(0) { $0 << 8 | Int($1) }
    }
    guard let directory = integer(at: 4, bytes: 4), let count = integer(at: directory, bytes: 2) else {
      return nil
    }
    var found: Int?
    for index in 0..<count {
      let entry = directory + 2 + 12 * index
      guard let tag = integer(at: entry, bytes: 2), let type = integer(at: entry + 2, bytes: 2),
        let values = integer(at: entry + 4, bytes: 4)
      else { break }
      // A single SHORT or LONG, stored in the entry itself.
      guard tag == 0x0112, values == 1, type == 3 || type == 4 else { continue }
      found = integer(at: entry + 8, bytes: type == 3 ? 2 : 4)
    }
    guard let found else { return nil }
    self.init(rawValue: found)
  }

  /// Reads it from an XMP packet, which may give it for a picture without EXIF:
  /// `tiff:Orientation="6"` or `<tiff:Orientation>6`.
  init?(xmp packet: ArraySlice<UInt8>) {
    let name = Array("tiff:Orientation".utf8)
    guard packet.count > name.count + 2 else { return nil }
    for start in packet.startIndex..<(packet.endIndex - name.count) {
      guard packet[start] == name[0], packet[start...].starts(with: name) else { continue }
      var rest = packet[(start + name.count)...]
      if rest.starts(with: Array("=\"".utf8)) {
        rest = rest.dropFirst(2)
      } else if rest.first == UInt8(ascii: ">") {
        rest = rest.dropFirst()
      } else {
        continue
      }
      guard let digit = rest.first, (0x30...0x39).contains(digit) else { continue }
      self.init(rawValue: Int(digit) - 0x30)
      return
    }
    return nil
  }

  /// Whether the picture's columns become rows.
  var exchangesSides: Bool { rawValue >= Self.transposed.rawValue }

  /// The picture with the orientation applied.
  func applied(to image: RGBImage) -> RGBImage {
    if self == .upright { return image }
    let swaps = exchangesSides
    let (height, width) = swaps ? (image.width, image.height) : (image.height, image.width)
    // The position of the result's pixel (row, column) in the stored picture: a start and two strides.
    let (last, end) = (image.height - 1, image.width - 1)
    let start: (row: Int, column: Int)
    switch self {
    case .upright, .transposed: start = (0, 0)
    case .mirrored, .turnedLeft: start = (0, end)
    case .turnedHalf, .transversed: start = (last, end)
    case .upsideDown, .turnedRight: start = (last, 0)
    }
    let rowSign = start.row == 0 ? 1 : -1
    let columnSign = start.column == 0 ? 1 : -1
    let alongRow = swaps ? rowSign * image.width : columnSign
    let alongColumn = swaps ? columnSign : rowSign * image.width
    var result: [UInt8] = []
    result.reserveCapacity(image.pixels.count)
    let first = start.row * image.width + start.column
    for row in 0..<height {
      for column in 0..<width {
        let from = 3 * (first + row * alongColumn + column * alongRow)
        result.append(image.pixels[from])
        result.append(image.pixels[from + 1])
        result.append(image.pixels[from + 2])
      }
    }
    return RGBImage(height: height, width: width, pixels: result)
  }
}
