// Error figures are real numbers, and JSON has no infinity or NaN: non-finite values are written as null and read as
// infinity.

extension Manifest.QuantizationError {
  private enum CodingKeys: String, CodingKey {
    case rmse, maximumAbsoluteError, relativeRMSE, cosineSimilarity, search
  }

  /// Reads the figures; `null` is infinity.
  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    self.init(
      rmse: try values.figure(.rmse), maximumAbsoluteError: try values.figure(.maximumAbsoluteError),
      relativeRMSE: try values.figure(.relativeRMSE), cosineSimilarity: try values.figure(.cosineSimilarity),
      search: try values.decodeIfPresent(Manifest.SearchGain.self, forKey: .search))
  }

  /// Writes the figures; non-finite ones as `null`.
  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(figure: rmse, .rmse)
    try values.encode(figure: maximumAbsoluteError, .maximumAbsoluteError)
    try values.encode(figure: relativeRMSE, .relativeRMSE)
    try values.encode(figure: cosineSimilarity, .cosineSimilarity)
    try values.encodeIfPresent(search, forKey: .search)
  }
}

extension Manifest.SearchGain {
  private enum CodingKeys: String, CodingKey { case before, after }

  /// Reads the figures; `null` is infinity.
  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    self.init(before: try values.figure(.before), after: try values.figure(.after))
  }

  /// Writes the figures; non-finite ones as `null`.
  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(figure: before, .before)
    try values.encode(figure: after, .after)
  }
}

extension KeyedDecodingContainer {
  /// - Throws: `DecodingError` if the key is missing, or its value is neither a number nor `null`.
  fileprivate func figure(_ key: Key) throws -> Double {
    try decodeNil(forKey: key) ? .infinity : decode(Double.self, forKey: key)
  }
}

extension KeyedEncodingContainer {
  fileprivate mutating func encode(figure: Double, _ key: Key) throws {
    if figure.isFinite { try encode(figure, forKey: key) } else { try encodeNil(forKey: key) }
  }
}
