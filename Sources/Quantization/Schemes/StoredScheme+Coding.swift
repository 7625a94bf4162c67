extension WeightScheme {
  /// How plans spell it: `fp8_block_128x128`, `int4_group_128`, `nvfp4`.
  public var spelling: String {
    switch self {
    case .fp8Block(let rows, let columns): "fp8_block_\(rows)x\(columns)"
    case .fp8Channel: "fp8_channel"
    case .int8Channel: "int8_channel"
    case .int4Group(let length): "int4_group_\(length)"
    case .nvfp4: "nvfp4"
    case .mxfp4: "mxfp4"
    }
  }

  /// Reads what ``spelling`` writes; `nil` for anything else, and for impossible sizes.
  public init?(spelling: String) {
    let sizes = 1...1 << 32
    switch spelling {
    case "fp8_channel": self = .fp8Channel
    case "int8_channel": self = .int8Channel
    case "nvfp4": self = .nvfp4
    case "mxfp4": self = .mxfp4
    default:
      if spelling.hasPrefix("int4_group_"), let length = Int(spelling.dropFirst(11)),
        sizes.contains(length)
      {
        self = .int4Group(length)
        return
      }
      let sides = spelling.dropFirst(10).split(separator: "x").compactMap { Int($0) }
      guard spelling.hasPrefix("fp8_block_"), sides.count == 2, sides.allSatisfy(sizes.contains) else {
        return nil
      }
      self = .fp8Block(rows: sides[0], columns: sides[1])
    }
  }
}

extension StoredScheme: Codable {
  private enum CodingKeys: String, CodingKey {
    case scheme, method
  }

  /// Reads the spelling of the scheme and the name of the method.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: CodingKeys.self)
    let spelling = try container.decode(String.self, forKey: .scheme)
    guard let scheme = WeightScheme(spelling: spelling) else {
      throw DecodingError.dataCorruptedError(
        forKey: .scheme, in: container, debugDescription: "there is no such scheme")
    }
    self.init(scheme, try container.decode(Method.self, forKey: .method))
  }

  /// Writes both.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(scheme.spelling, forKey: .scheme)
    try container.encode(method, forKey: .method)
  }
}

extension StoredScheme.Method: Codable {}

// MARK: - Asking

extension WeightScheme {
  /// Whether a row's scale depends on all of its elements, so that encoding a piece of a row needs the whole row.
  public var scalesWholeRows: Bool { self == .fp8Channel || self == .int8Channel }

  /// Whether codes have four bits.
  public var isFourBit: Bool { geometry.codesPerElement > 1 }
}

/// Coded as its name.
extension ScaleSearch: Codable {}
