import CheckpointTesting
import TensorFormats
import Testing

import ImageInput

/// Layout, tensors and prompt of the published processor.
@Suite struct ProcessorTests {
  @Test("crops of 600 sizes are laid out as published")
  func layouts() throws {
    let (rows, shape) = try ReferenceTensors("layouts").integers("layouts")
    #expect(shape == [600, 10])
    for start in stride(from: 0, to: rows.count, by: 10) {
      let row = Array(rows[start..<(start + 10)])
      let layout = try CropLayout(width: row[0], height: row[1])
      let result = [
        row[0], row[1], layout.paddedSide ?? 0, layout.wholeWidth, layout.wholeHeight, layout.cropWidth,
        layout.cropHeight, layout.window, layout.columns, layout.rows,
      ]
      #expect(result == row)
    }
  }

  @Test(
    "tensors equal those of Pillow and PyTorch",
    arguments: [
      "beside.jpg", "below.jpg", "strip.png", "padded.png", "shrunk.png", "single.png", "limit.png",
    ])
  func tensors(name: String) throws {
    let reference = try ReferenceTensors("processed")
    let later = try ReferenceTensors("pillow-13")
    let picture = try ImageFile.read(Fixtures.path("images/\(name)"))
    for version in [PillowVersion.upTo12, .from13] {
      func expected(_ name: String) throws -> (values: [Float], shape: [Int]) {
        try (version == .from13 && later.contains(name) ? later : reference).floats(name)
      }
      let processor = try Step3ImageProcessor(imageSize: 56, cropSize: 28, pillow: version)
      let result = try processor.process(picture)
      let image = try expected("\(name).image")
      #expect(result.pixelShape.dimensions == image.shape)
      #expect(largestDifference(result.pixelValues, image.values) < 2e-6)
      if reference.contains("\(name).crops") {
        let crops = try expected("\(name).crops")
        #expect(result.cropShape.dimensions == crops.shape)
        #expect(largestDifference(result.cropValues, crops.values) < 2e-6, "\(version)")
      } else {
        #expect(result.layout.count == 0)
        #expect(result.cropValues.isEmpty)
      }
    }
  }

  @Test("without resizing, samples are normalised exactly")
  func normalisation() throws {
    let pixels = (0..<(28 * 28 * 3)).map { UInt8(truncatingIfNeeded: $0 * 7) }
    let processor = try Step3ImageProcessor(imageSize: 28, cropSize: 28)
    let result = try processor.process(RGBImage(height: 28, width: 28, pixels: pixels))
    let (mean, deviation): ([Float], [Float]) = (
      [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    )
    for (index, value) in result.pixelValues.enumerated() {
      let (channel, pixel) = (index / 784, index % 784)
      #expect(value == (Float(pixels[3 * pixel + channel]) / 255 - mean[channel]) / deviation[channel])
    }
  }

  @Test("the prompt has the crops row by row with newlines between rows, then the whole picture")
  func prompt() throws {
    let processor = try Step3ImageProcessor()
    #expect((processor.imageFeatures, processor.cropFeatures) == (169, 81))
    let layout = try processor.layout(width: 1008, height: 1008)
    #expect((layout.columns, layout.rows) == (2, 2))
    let crop = [
      RepeatedToken("<patch_start>"), RepeatedToken("<im_patch>", count: 81), RepeatedToken("<patch_end>"),
    ]
    let whole = [
      RepeatedToken("<im_start>"), RepeatedToken("<im_patch>", count: 169), RepeatedToken("<im_end>"),
    ]
    let prompt = processor.prompt(for: layout)
    #expect(prompt.tokens == crop + crop + [RepeatedToken("<patch_newline>")] + crop + crop + whole)
    #expect(prompt.count == 4 * 83 + 1 + 171)
    #expect(processor.prompt(for: try processor.layout(width: 728, height: 728)).tokens == whole)
  }

  @Test("small models count their features as the vision tower does")
  func featureCounts() throws {
    // The vision sides of Fixtures/checkpoints: tiny, odd.
    let tiny = try Step3ImageProcessor(imageSize: 56, cropSize: 84)
    #expect((tiny.imageFeatures, tiny.cropFeatures) == (1, 4))
    let odd = try Step3ImageProcessor(imageSize: 98, cropSize: 84)
    #expect((odd.imageFeatures, odd.cropFeatures) == (4, 4))
    #expect(try Step3ImageProcessor(projectorStride: 1).imageFeatures == 26 * 26)
    for (image, patch, stride) in [(27, 14, 2), (56, 0, 2), (56, 14, 0), (1 << 20, 14, 2), (-5, 14, 2)] {
      let error = #expect(throws: CheckpointError.self) {
        try Step3ImageProcessor(imageSize: image, cropSize: 504, patchSize: patch, projectorStride: stride)
      }
      #expect(error?.code == .invalidRequest)
    }
  }

  @Test("vLLM crops at exactly 728 pixels, and crops can be left out")
  func rules() throws {
    #expect(try CropLayout(width: 728, height: 600, rule: .published).count == 0)
    #expect(try CropLayout(width: 728, height: 600, rule: .vLLM).count == 2)
    #expect(try CropLayout(width: 727, height: 600, rule: .vLLM).count == 0)
    var rule = CropRule.published
    rule.cropsPictures = false
    #expect(try CropLayout(width: 3000, height: 3000, rule: rule).count == 0)
  }

  @Test("pictures that would vanish or need more tokens than the model takes are refused")
  func extremes() throws {
    for (width, height) in [(200_000, 33), (1, 60_000), (89_000_000, 1)] {
      let error = #expect(throws: CheckpointError.self) { try CropLayout(width: width, height: height) }
      #expect(error?.code == .unsupported)
    }
    // 3024 x 1 after shrinking: a crop for every pixel.
    let strip = RGBImage(height: 32, width: 60_000, pixels: [UInt8](repeating: 9, count: 60_000 * 96))
    let error = #expect(throws: CheckpointError.self) { try Step3ImageProcessor().process(strip) }
    #expect(error?.code == .unsupported)
    #expect(error?.message.contains("3024 crops") == true)
  }
}
