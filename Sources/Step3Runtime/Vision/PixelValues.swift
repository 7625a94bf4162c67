public import ImageInput
public import TensorFormats

/// Square pictures of one size, normalised: `[count, channels, side, side]`, row-major.
public struct SquareImages: Sendable {
  /// How many.
  public let count: Int
  /// Colour channels.
  public let channels: Int
  /// Rows and columns of each, in pixels.
  public let side: Int
  /// All samples.
  public let values: [Float]

  /// Makes pictures.
  ///
  /// - Precondition: There are `count` × `channels` × `side` × `side` values.
  public init(count: Int, channels: Int = 3, side: Int, _ values: [Float]) {
    precondition(
      count >= 0 && channels > 0 && side > 0 && values.count == count * channels * side * side,
      "pictures need their samples")
    self.count = count
    self.channels = channels
    self.side = side
    self.values = values
  }

  /// Samples of one picture.
  public var samplesPerImage: Int { channels * side * side }
}

/// The pictures of a prompt, as the published processor hands them to the model.
public struct PixelValues: Sendable {
  /// The whole pictures: `[n, 3, S, S]`.
  public let images: SquareImages
  /// The crops of all pictures, in the pictures' order: `[m, 3, S', S']`; `nil` if there are none.
  public let crops: SquareImages?
  /// How many crops each picture has; the sum is m.
  public let cropCounts: [Int]

  /// Combines pictures and their crops.
  ///
  /// - Parameters:
  ///   - images: The whole pictures.
  ///   - crops: The crops of all pictures, in their order; `nil` if none has crops.
  ///   - cropCounts: One for each picture; `nil` if none has crops.
  /// - Throws: `.malformed` if counts and crops do not match or a sample is not finite.
  public init(
    _ images: SquareImages, crops: SquareImages? = nil, cropCounts: [Int]? = nil
  ) throws(CheckpointError) {
    let crops = crops?.count == 0 ? nil : crops
    let counts = cropCounts ?? (crops == nil ? [Int](repeating: 0, count: images.count) : [])
    guard counts.count == images.count else {
      throw CheckpointError(
        .malformed, "there are \(images.count) pictures, but \(counts.count) numbers of crops",
        tensor: Self.countsName)
    }
    var total = 0
    for count in counts {
      let (sum, overflow) = total.addingReportingOverflow(count)
      guard count >= 0, !overflow else {
        throw CheckpointError(.malformed, "a picture cannot have \(count) crops", tensor: Self.countsName)
      }
      total = sum
    }
    guard total == crops?.count ?? 0 else {
      throw CheckpointError(
        .malformed, "the counts add up to \(total) crops, but there are \(crops?.count ?? 0)",
        tensor: Self.countsName)
    }
    guard crops == nil || crops?.channels == images.channels else {
      throw CheckpointError(
        .malformed, "pictures have \(images.channels) channels, crops \(crops?.channels ?? 0)",
        tensor: Self.cropsName)
    }
    try Self.checkFinite(images.values, Self.imagesName)
    if let crops { try Self.checkFinite(crops.values, Self.cropsName) }
    self.images = images
    self.crops = crops
    self.cropCounts = counts
  }

  /// Combines the pictures of a prompt, in order.
  ///
  /// - Throws: `.invalidRequest` if there are none or they were not processed for the same sizes.
  public init(_ processed: [ProcessedImage]) throws(CheckpointError) {
    guard let first = processed.first else {
      throw CheckpointError(.invalidRequest, "there are no pictures")
    }
    guard processed.allSatisfy({ $0.imageSize == first.imageSize && $0.cropSize == first.cropSize }) else {
      throw CheckpointError(.invalidRequest, "the pictures were processed for different sizes")
    }
    let counts = processed.map(\.layout.count)
    try self.init(
      SquareImages(count: processed.count, side: first.imageSize, processed.flatMap(\.pixelValues)),
      crops: SquareImages(
        count: counts.reduce(0, +), side: first.cropSize, processed.flatMap(\.cropValues)),
      cropCounts: counts)
  }

  static let imagesName = "pixel_values"
  static let cropsName = "patch_pixel_values"
  static let countsName = "num_patches"

  private static func checkFinite(_ values: [Float], _ name: String) throws(CheckpointError) {
    let span = values.span
    for index in span.indices where !span[index].isFinite {
      throw CheckpointError(.nonFinite, "element \(index) is \(span[index])", tensor: name)
    }
  }
}
