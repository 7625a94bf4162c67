import Foundation
import FuzzSupport
import ImageInput
import TensorFormats

/// Any bytes as a PNG or JPEG picture: refused with an error, or decoded completely.
func check(_ file: [UInt8]) {
  for published in [ImageReading.published, .vLLM, .sgLang] {
    var reading = published
    reading.pixelLimit = 1 << 16
    var announced: ImageHeader?
    let image = try? ImageFile.decode(file, as: reading) { header in
      require(header.width > 0 && header.height > 0, "a picture without pixels")
      require(header.width <= reading.pixelLimit / header.height, "it is larger than what is read")
      require(
        header.decodingBytes >= header.width * header.height * 3, "it is said to take less than its pixels")
      announced = header
    }
    guard let image else { continue }
    require(image.width == announced?.width && image.height == announced?.height, "it is not as announced")
    require(image.pixels.count == image.width * image.height * 3, "it has another number of samples")
  }
}

exit(
  runFuzzer { bytes, count in
    check(Array(UnsafeBufferPointer(start: bytes, count: count)))
    return 0
  })
