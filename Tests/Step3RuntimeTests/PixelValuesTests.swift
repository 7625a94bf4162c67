import CheckpointTesting
import Foundation
import ImageInput
import Safetensors
import Step3Runtime
import TensorFormats
import Testing

/// Pixels from files and from processed pictures.
@Suite("Pixel values")
struct PixelValuesTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  private struct Content {
    var name: String
    var type: ElementType
    var shape: [Int]
    var bytes: [UInt8]

    static func floats(_ name: String, _ shape: [Int], _ values: [Float]) -> Content {
      Content(
        name: name, type: .f32, shape: shape,
        bytes: values.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } })
    }

    static func counts(_ values: [Int64], as type: ElementType = .i64) -> Content {
      let bytes = values.flatMap { value in
        type == .i64
          ? withUnsafeBytes(of: value.littleEndian) { Array($0) }
          : withUnsafeBytes(of: Int32(value).littleEndian) { Array($0) }
      }
      return Content(name: "num_patches", type: type, shape: [values.count], bytes: bytes)
    }
  }

  private func file(_ contents: [Content]) throws -> String {
    let path = directory.path("\(UUID().uuidString).safetensors")
    let layout = try SafetensorsLayout(
      contents.map { .init(name: $0.name, elementType: $0.type, shape: TensorShape($0.shape)) })
    let writer = try SafetensorsWriter(path, layout: layout)
    for content in contents { try writer.write(tensor: content.name, bytes: content.bytes.span.bytes) }
    try writer.finish()
    return path
  }

  /// Two pictures of 2 x 2 pixels and three crops of one.
  private static let images = Content.floats("pixel_values", [2, 3, 2, 2], (0..<24).map { Float($0) })
  private static let crops = Content.floats("patch_pixel_values", [3, 3, 1, 1], (0..<9).map { Float(-$0) })

  @Test("pixels are read as F32, BF16 and F16, counts as I32 and I64")
  func types() throws {
    let read = try PixelValues(
      safetensors: file([Self.images, Self.crops, .counts([1, 2], as: .i32)]))
    #expect(read.images.values == (0..<24).map { Float($0) })
    #expect(read.images.count == 2 && read.images.side == 2)
    #expect(read.crops?.values == (0..<9).map { Float(-$0) })
    #expect(read.cropCounts == [1, 2])
    for type in [ElementType.bf16, .f16] {
      let bits = (0..<24).map {
        type == .f16 ? Float16($0).bitPattern : UInt16(Float($0).bitPattern >> 16)
      }
      let half = Content(
        name: "pixel_values", type: type, shape: [2, 3, 2, 2],
        bytes: bits.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] })
      let read = try PixelValues(safetensors: file([half, Self.crops, .counts([3, 0])]))
      #expect(read.images.values == (0..<24).map { Float($0) })
      #expect(read.cropCounts == [3, 0])
    }
    let whole = try PixelValues(safetensors: file([Self.images]))
    #expect(whole.crops == nil && whole.cropCounts == [0, 0])
  }

  @Test("mismatching tensors are refused by name")
  func refuses() throws {
    func expect(
      _ code: CheckpointError.Code, _ tensor: String, _ contents: [Content],
      sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      let path = try file(contents)
      let error = #expect(throws: CheckpointError.self, sourceLocation: sourceLocation) {
        try PixelValues(safetensors: path)
      }
      #expect(error?.code == code && error?.tensor == tensor, sourceLocation: sourceLocation)
      #expect(error?.path == path, sourceLocation: sourceLocation)
    }
    let zeros = [Float](repeating: 0, count: 48)
    try expect(.notFound, "pixel_values", [Self.crops])
    try expect(.malformed, "pixel_values", [.floats("pixel_values", [2, 3, 4, 2], zeros)])
    try expect(.malformed, "pixel_values", [.floats("pixel_values", [3, 4, 4], zeros)])
    try expect(.malformed, "pixel_values", [.floats("pixel_values", [3, 4, 2, 2], zeros)])
    try expect(.malformed, "pixel_values", [.floats("pixel_values", [1, 3, 0, 0], [])])
    try expect(
      .malformed, "pixel_values",
      [Content(name: "pixel_values", type: .u8, shape: [1, 3, 1, 1], bytes: [1, 2, 3])])
    try expect(.nonFinite, "pixel_values", [.floats("pixel_values", [1, 3, 1, 1], [0, .nan, 0])])
    try expect(
      .nonFinite, "patch_pixel_values",
      [Self.images, .floats("patch_pixel_values", [1, 3, 1, 1], [0, 0, .infinity]), .counts([1, 0])])
    // Counts that are missing although there are crops, disagree with pictures or crops, are negative, overflow, or have other types.
    try expect(.malformed, "num_patches", [Self.images, Self.crops])
    try expect(.malformed, "num_patches", [Self.images, Self.crops, .counts([3])])
    try expect(.malformed, "num_patches", [Self.images, Self.crops, .counts([1, 1])])
    try expect(.malformed, "num_patches", [Self.images, .counts([1, 0])])
    try expect(.malformed, "num_patches", [Self.images, Self.crops, .counts([4, -1])])
    try expect(.malformed, "num_patches", [Self.images, Self.crops, .counts([.max, .max])])
    try expect(
      .malformed, "num_patches",
      [
        Self.images, Self.crops,
        Content(name: "num_patches", type: .f32, shape: [2], bytes: [UInt8](repeating: 0, count: 8)),
      ])
  }

  @Test("processed pictures keep their order and their crops")
  func processed() throws {
    let processor = try Step3ImageProcessor(imageSize: 56, cropSize: 28)
    func picture(_ width: Int, _ height: Int, _ seed: Int) -> RGBImage {
      RGBImage(
        height: height, width: width,
        pixels: (0..<3 * width * height).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ seed) })
    }
    let small = try processor.process(picture(40, 40, 1))
    let wide = try processor.process(picture(1200, 600, 2))
    try #require(small.layout.count == 0 && wide.layout.count > 0)
    let pixels = try PixelValues([small, wide])
    #expect(pixels.cropCounts == [0, wide.layout.count])
    #expect(pixels.images.values == small.pixelValues + wide.pixelValues)
    #expect(pixels.crops?.values == wide.cropValues)
    #expect(pixels.images.side == 56 && pixels.crops?.side == 28)
    #expect(throws: CheckpointError.self) {
      try PixelValues([small, Step3ImageProcessor(imageSize: 28, cropSize: 28).process(picture(40, 40, 1))])
    }
    #expect(throws: CheckpointError.self) { try PixelValues([ProcessedImage]()) }
  }
}
