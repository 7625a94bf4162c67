import Testing

import ImageInput

/// Both resizers match the libraries that the published processor calls.
@Suite struct ResizeTests {
  @Test("8-bit bilinear as in Pillow, bit for bit", arguments: [PillowVersion.upTo12, .from13])
  func pillow(version: PillowVersion) throws {
    let reference = try ReferenceTensors("resized")
    let later = try ReferenceTensors("pillow-13")
    let source = try reference.bytes("pillow.source")
    let image = RGBImage(height: source.shape[0], width: source.shape[1], pixels: source.values)
    let names = reference.names.filter { $0.hasPrefix("pillow.") && $0 != "pillow.source" }
    #expect(names.count == 8)
    for name in names {
      let differs = version == .from13 && later.contains(name)
      let expected = try (differs ? later : reference).bytes(name)
      let result = image.resizedLikePillow(
        width: expected.shape[1], height: expected.shape[0], version: version)
      let wrong = zip(result.pixels, expected.values).count { $0 != $1 }
      #expect(wrong == 0 && result.pixels.count == expected.values.count, "\(name): \(wrong) samples differ")
    }
  }

  @Test("F32 bilinear and bicubic as in PyTorch", arguments: [ResamplingFilter.bilinear, .bicubic])
  func floats(filter: ResamplingFilter) throws {
    let reference = try ReferenceTensors("resized")
    let (source, shape) = try reference.floats("float.source")
    let names = reference.names.filter { $0.hasPrefix("float.\(filter).") }
    #expect(names.count == 6)
    for name in names {
      let expected = try reference.floats(name)
      let resize = AntialiasedResize(
        filter, from: .init(height: shape[1], width: shape[2]),
        to: .init(height: expected.shape[1], width: expected.shape[2]))
      let result = resize.apply(source, channels: 3, layout: .channelsFirst)
      #expect(largestDifference(result, expected.values) < 1e-5, "\(name)")
      // The same planes with channels last.
      let area = shape[1] * shape[2]
      let turned = resize.apply(
        (0..<(3 * area)).map { source[$0 % 3 * area + $0 / 3] }, channels: 3, layout: .channelsLast)
      let newArea = expected.shape[1] * expected.shape[2]
      #expect((0..<(3 * newArea)).allSatisfy { turned[$0] == result[$0 % 3 * newArea + $0 / 3] }, "\(name)")
    }
  }

  @Test("position embeddings are interpolated as in PyTorch")
  func positions() throws {
    let reference = try ReferenceTensors("resized")
    let (source, shape) = try reference.floats("positions.source")
    let expected = try reference.floats("positions.36x36")
    let resize = AntialiasedResize(
      .bicubic, from: .init(height: shape[0], width: shape[1]), to: .init(height: 36, width: 36))
    let result = resize.apply(source, channels: shape[2], layout: .channelsLast)
    #expect(largestDifference(result, expected.values) < 2e-6)
  }

  @Test("a constant picture stays constant at any size")
  func constants() {
    for filter in [ResamplingFilter.bilinear, .bicubic] {
      for source in 1...40 {
        for target in 1...40 {
          let resize = AntialiasedResize(
            filter, from: .init(height: source, width: 3), to: .init(height: target, width: 2))
          let result = resize.apply(
            [Float](repeating: 2.5, count: source * 3), channels: 1, layout: .channelsFirst)
          #expect(result.count == target * 2)
          #expect(result.allSatisfy { abs($0 - 2.5) < 1e-5 }, "\(filter) \(source) to \(target)")
        }
      }
    }
    for source in 1...40 {
      let image = RGBImage(height: source, width: 2, pixels: [UInt8](repeating: 255, count: source * 6))
      for target in 1...40 {
        let result = image.resizedLikePillow(width: 5, height: target)
        #expect(result.pixels == [UInt8](repeating: 255, count: target * 15), "\(source) to \(target)")
      }
    }
  }
}
