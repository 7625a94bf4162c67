import CheckpointTesting
import ImageInput
import TensorFormats
import Testing

/// Pictures of every kind give Pillow's samples, bit for bit, in each of the three reading modes.
@Suite struct DecodingTests {
  static let names: [String] =
    ["rgb", "rgba", "gray", "gray-alpha", "gray-key", "bits-1", "palette", "palette-4", "palette-alpha"]
    .map { "\($0).png" }
    + ["gray16", "rgb16", "rgba16", "gray-alpha16", "interlaced", "interlaced-1x1", "gamma", "oriented"]
    .map { "\($0).png" }
    + [
      "baseline-420", "baseline-422", "baseline-444", "progressive", "restarts", "gray", "rgb-components",
      "cmyk",
    ]
    .map { "\($0).jpg" } + (1...8).map { "oriented-\($0).jpg" } + ["oriented-xmp.jpg"]

  @Test("every decoded fixture is tried")
  func namesAreComplete() throws {
    let reference = try ReferenceTensors("decoded")
    let stored = Set(reference.names.map { String($0[..<($0.lastIndex(of: ".") ?? $0.endIndex)]) })
    #expect(stored == Set(Self.names))
  }

  @Test("pictures are decoded as by Pillow, bit for bit", arguments: names)
  func decoded(name: String) throws {
    let reference = try ReferenceTensors("decoded")
    let published = try reference.bytes("\(name).published")
    let path = Fixtures.path("images/\(name)")
    for (reading, suffix) in [
      (ImageReading.published, "published"), (.vLLM, "vllm"), (.sgLang, "sglang"),
    ] {
      let stored = "\(name).\(suffix)"
      let expected = reference.contains(stored) ? try reference.bytes(stored) : published
      let image = try ImageFile.read(path, as: reading)
      #expect([image.height, image.width, 3] == expected.shape, "\(suffix)")
      let wrong = zip(image.pixels, expected.values).count { $0 != $1 }
      #expect(wrong == 0, "\(suffix): \(wrong) of \(expected.values.count) samples differ")
    }
  }

  @Test("the three reading modes differ where they should")
  func readingsDiffer() throws {
    let reference = try ReferenceTensors("decoded")
    for name in ["rgba.png.vllm", "palette-alpha.png.vllm", "gamma.png.vllm", "gray-key.png.vllm"] {
      #expect(reference.contains(name), "\(name)")
    }
    for name in ["oriented-6.jpg.sglang", "oriented-xmp.jpg.sglang", "oriented.png.sglang"] {
      #expect(reference.contains(name), "\(name)")
    }
    #expect(!reference.contains("oriented-1.jpg.sglang"))
  }

  @Test("a picture of more pixels than the limit is refused before it is decoded")
  func pixelLimit() throws {
    var reading = ImageReading.published
    for name in ["rgb.png", "baseline-420.jpg"] {
      let path = Fixtures.path("images/\(name)")
      let image = try ImageFile.read(path)
      reading.pixelLimit = image.width * image.height
      #expect(try ImageFile.read(path, as: reading) == image)
      reading.pixelLimit -= 1
      let error = #expect(throws: CheckpointError.self) { try ImageFile.read(path, as: reading) }
      #expect(error?.code == .unsupported)
      #expect(error?.path == path)
      #expect(error?.message.contains("\(image.width) x \(image.height)") == true)
    }
  }
}
