public import TensorFormats

/// A picture as input of the vision tower, and its prompt tokens.
public struct ProcessedImage: Sendable {
  /// The whole picture, shape [1, 3, S, S], row-major.
  public let pixelValues: [Float]
  /// Its crops, shape [m, 3, S', S'], row-major; empty if there are none.
  public let cropValues: [Float]
  /// S: rows and columns of the whole picture.
  public let imageSize: Int
  /// S': rows and columns of a crop.
  public let cropSize: Int
  /// The grid of the crops.
  public let layout: CropLayout
  /// The tokens that replace the picture. The `feature` tokens are replaced by features in order: crops first.
  public let prompt: ImagePrompt

  /// [1, 3, S, S]
  public var pixelShape: TensorShape { TensorShape([1, 3, imageSize, imageSize]) }
  /// [m, 3, S', S']
  public var cropShape: TensorShape { TensorShape([layout.count, 3, cropSize, cropSize]) }
}

/// The published preprocessing of Step-3: crops, CLIP's normalisation, then resizing.
///
/// In this order: the picture is padded and scaled down with 8-bit arithmetic (``CropLayout``), its samples become
/// (value / 255 - mean) / deviation, and the result is resized to the encoder's square with an antialiased bilinear
/// filter in F32. (The published class defaults to bicubic, but the published processor asks for bilinear.)
public struct Step3ImageProcessor: Sendable {
  /// CLIP's mean and standard deviation of red, green and blue, of samples between 0 and 1.
  static let mean: [Float] = [0.48145466, 0.4578275, 0.40821073]
  static let deviation: [Float] = [0.26862954, 0.26130258, 0.27577711]

  /// Rows and columns of the whole picture: 728.
  public let imageSize: Int
  /// Rows and columns of a crop: 504.
  public let cropSize: Int
  /// The filter of the last resizing.
  public let filter: ResamplingFilter
  /// The cropping rule.
  public let rule: CropRule
  /// The Pillow version whose 8-bit resizing is reproduced.
  public let pillow: PillowVersion
  /// The names of the tokens.
  public let tokens: ImageTokens
  /// Pictures with more tokens than this are refused, before memory is spent on their crops.
  public let tokenLimit: Int
  /// Feature vectors of a whole picture: 169.
  public let imageFeatures: Int
  /// Feature vectors of a crop: 81.
  public let cropFeatures: Int

  /// Creates a processor; defaults are as published.
  ///
  /// - Parameters:
  ///   - patchSize: the side of the squares that the vision tower turns into vectors.
  ///   - projectorStride: the stride of its first down-sampler (`understand_projector_stride`).
  ///   - tokenLimit: the model's context.
  /// - Throws: `.invalidRequest` if the sizes leave no features or are out of range.
  public init(
    imageSize: Int = 728, cropSize: Int = 504, patchSize: Int = 14, projectorStride: Int = 2,
    filter: ResamplingFilter = .bilinear, rule: CropRule = .published,
    pillow: PillowVersion = .upTo12, tokens: ImageTokens = ImageTokens(),
    tokenLimit: Int = 65536
  ) throws(CheckpointError) {
    self.imageSize = imageSize
    self.cropSize = cropSize
    self.filter = filter
    self.rule = rule
    self.pillow = pillow
    self.tokens = tokens
    self.tokenLimit = tokenLimit
    let count = Step3ImageProcessor.featureCount
    imageFeatures = try count(imageSize, patchSize, projectorStride)
    cropFeatures = try count(cropSize, patchSize, projectorStride)
    guard rule.window > 0, rule.longestSide > 0 else {
      throw CheckpointError(.invalidRequest, "crops of \(rule.window) pixels are not possible")
    }
  }

  /// The feature vectors of a square picture: patches, a 2 x 2 convolution of the given stride, and a 3 x 3 one of
  /// stride 2 with padding 1.
  private static func featureCount(side: Int, patchSize: Int, stride: Int) throws(CheckpointError) -> Int {
    guard patchSize > 0, stride > 0, side >= 2 * patchSize, side <= 1 << 14 else {
      throw CheckpointError(
        .invalidRequest,
        "pictures of \(side) pixels with patches of \(patchSize) and a stride of \(stride) cannot be encoded",
        remedy: "the side must be at least two patches and at most 16384")
    }
    let first = (side / patchSize - 2) / stride + 1
    let second = (first - 1) / 2 + 1
    return second * second
  }

  /// The crop layout of a picture, from its size alone.
  ///
  /// - Throws: `.unsupported` if it is too narrow.
  public func layout(width: Int, height: Int) throws(CheckpointError) -> CropLayout {
    try CropLayout(width: width, height: height, rule: rule)
  }

  /// The tokens that replace a picture.
  public func prompt(for layout: CropLayout) -> ImagePrompt {
    ImagePrompt(layout, imageFeatures: imageFeatures, cropFeatures: cropFeatures, names: tokens)
  }

  /// Checks from a picture's size alone that its tokens fit the model, and that there is enough memory to process it.
  ///
  /// - Parameter memory: The memory limit in bytes for everything: the decoder, the picture in each of its sizes, and
  ///   the samples of its crops, which are held twice when they are concatenated with those of other pictures.
  /// - Returns: The layout.
  /// - Throws: `.unsupported` if not, or if the picture is too narrow.
  @discardableResult
  public func check(_ header: ImageHeader, memory: Int) throws(CheckpointError) -> CropLayout {
    let layout = try checkedLayout(width: header.width, height: header.height)
    let side = layout.paddedSide ?? 0
    let pictures = side * side + layout.cropWidth * layout.cropHeight + layout.window * layout.window
    let planes = layout.wholeWidth * layout.wholeHeight * (1 + 4)
    let samples = layout.count * cropSize * cropSize + imageSize * imageSize
    let needed = header.decodingBytes + 3 * (pictures + planes) + 2 * 3 * 4 * samples
    guard needed <= memory else {
      throw CheckpointError(
        .unsupported,
        "the picture of \(header.width) x \(header.height) pixels becomes \(layout.count) crops and needs \(needed) "
          + "bytes; \(memory) are allowed", remedy: "raise --memory, or scale the picture down")
    }
    return layout
  }

  private func checkedLayout(width: Int, height: Int) throws(CheckpointError) -> CropLayout {
    let layout = try layout(width: width, height: height)
    let tokenCount = layout.count * (cropFeatures + 2) + max(0, layout.rows - 1) + imageFeatures + 2
    guard tokenCount <= tokenLimit else {
      throw CheckpointError(
        .unsupported,
        "the picture of \(width) x \(height) pixels becomes \(layout.count) crops, \(tokenCount) tokens; "
          + "the limit is \(tokenLimit)", remedy: "cut it into pieces with a smaller aspect ratio")
    }
    return layout
  }

  /// Creates a picture's tensors and its prompt.
  ///
  /// - Throws: `.unsupported` if the picture is too narrow, or gives more tokens than the model supports.
  public func process(_ image: RGBImage) throws(CheckpointError) -> ProcessedImage {
    let layout = try checkedLayout(width: image.width, height: image.height)
    var whole = image
    if let side = layout.paddedSide { whole = whole.square(x: 0, y: 0, side: side) }
    whole = whole.resizedLikePillow(width: layout.wholeWidth, height: layout.wholeHeight, version: pillow)
    var crops: [Float] = []
    crops.reserveCapacity(layout.count * 3 * cropSize * cropSize)
    if layout.count > 0 {
      let sheet = whole.resizedLikePillow(width: layout.cropWidth, height: layout.cropHeight, version: pillow)
      for row in 0..<layout.rows {
        for column in 0..<layout.columns {
          let crop = sheet.square(x: column * layout.window, y: row * layout.window, side: layout.window)
          crops += encoderInput(crop, side: cropSize)
        }
      }
    }
    return ProcessedImage(
      pixelValues: encoderInput(whole, side: imageSize), cropValues: crops, imageSize: imageSize,
      cropSize: cropSize, layout: layout, prompt: prompt(for: layout))
  }

  /// A picture normalised and resized, shape [3, side, side].
  private func encoderInput(_ image: RGBImage, side: Int) -> [Float] {
    let count = image.height * image.width
    var planes = [Float](repeating: 0, count: 3 * count)
    let samples = image.pixels.span
    var output = planes.mutableSpan
    for channel in 0..<3 {
      let (mean, deviation) = (Step3ImageProcessor.mean[channel], Step3ImageProcessor.deviation[channel])
      let values = (0...255).map { (Float($0) / 255 - mean) / deviation }
      for pixel in 0..<count {
        output[channel * count + pixel] = values[Int(samples[3 * pixel + channel])]
      }
    }
    let resize = AntialiasedResize(
      filter, from: .init(height: image.height, width: image.width), to: .init(height: side, width: side))
    return resize.apply(planes, channels: 3, layout: .channelsFirst)
  }
}
