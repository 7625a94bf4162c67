/// The names of the tokens that represent a picture. The tokenizer has their ids.
public struct ImageTokens: Hashable, Sendable {
  /// Stands for one feature vector of the vision tower.
  public var feature = "<im_patch>"
  /// Before and after the whole picture.
  public var imageStart = "<im_start>"
  public var imageEnd = "<im_end>"
  /// Before and after a crop.
  public var cropStart = "<patch_start>"
  public var cropEnd = "<patch_end>"
  /// After the last crop of a row.
  public var cropNewline = "<patch_newline>"

  /// The published names.
  public init() {}
}

/// A token with a repeat count.
public struct RepeatedToken: Hashable, Sendable {
  /// The token's name.
  public let name: String
  /// The number of repetitions.
  public let count: Int

  /// Creates a run of tokens.
  public init(_ name: String, count: Int = 1) {
    self.name = name
    self.count = count
  }
}

/// The tokens that replace a picture in a prompt: its crops, row by row, then the picture itself.
public struct ImagePrompt: Hashable, Sendable {
  /// The tokens in order.
  public let tokens: [RepeatedToken]

  /// The number of tokens.
  public var count: Int { tokens.reduce(0) { $0 + $1.count } }

  /// Creates the prompt for a layout.
  ///
  /// - Parameter imageFeatures: feature vectors of the whole picture; `cropFeatures`: of one crop.
  init(_ layout: CropLayout, imageFeatures: Int, cropFeatures: Int, names: ImageTokens) {
    var tokens: [RepeatedToken] = []
    for crop in 0..<layout.count {
      tokens.append(RepeatedToken(names.cropStart))
      tokens.append(RepeatedToken(names.feature, count: cropFeatures))
      tokens.append(RepeatedToken(names.cropEnd))
      if layout.breaksLine(after: crop) { tokens.append(RepeatedToken(names.cropNewline)) }
    }
    tokens.append(RepeatedToken(names.imageStart))
    tokens.append(RepeatedToken(names.feature, count: imageFeatures))
    tokens.append(RepeatedToken(names.imageEnd))
    self.tokens = tokens
  }
}
