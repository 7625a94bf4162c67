public import Quantization
internal import TensorFormats

extension ShardPlan {
  /// How an output tensor is made from its sources: decided once, by the planner, and carried out as is.
  ///
  /// | operation | source | output |
  /// |---|---|---|
  /// | ``copy`` | values, GGML blocks | the same bytes |
  /// | ``convert(importance:)`` | values, GGML blocks, codes with scales | values, GGML blocks |
  /// | ``encode(_:of:_:)`` | values, GGML blocks, codes with scales | a part of a scheme, made anew |
  /// | ``pack`` | codes with scales | GGML blocks of the same codes and scales |
  /// | ``unpack(_:of:)`` | GGML blocks | a part of a scheme, of the same codes and scales |
  /// | ``carry(_:of:scaleGroup:)`` | a part of a scheme | the same part |
  /// | ``shape(of:)`` | the box | its rows and columns |
  public enum Operation: Hashable, Sendable {
    /// The box's bytes are copied unchanged.
    case copy
    /// The values, multiplied by any scales, are stored as the tensor's element type.
    ///
    /// `importance` is the tensor's name in the importance matrix; `nil` if that does not cover it, or the encoder
    /// ignores weights.
    case convert(importance: String?)
    /// A part of a scheme is encoded from the values. All parts of a module use the same settings.
    case encode(StoredScheme.Part, of: StoredScheme, Encoding)
    /// Codes and scales of four bits become GGML blocks.
    case pack
    /// GGML blocks of four bits become codes or scales.
    case unpack(StoredScheme.Part, of: StoredScheme)
    /// A part of the source's scheme is carried over: codes byte for byte, scales in the tensor's element type, the
    /// scale of a matrix in the convention of the named scheme (without one: GGUF's), 1 if the source has none.
    ///
    /// Matrices of one `scaleGroup` must have the same scale.
    case carry(StoredScheme.Part, of: StoredScheme?, scaleGroup: Int?)
    /// The shape of packed codes before packing.
    case shape(of: StoredScheme)
  }

  /// How a scheme is encoded.
  public struct Encoding: Hashable, Sendable {
    /// How the scales are chosen.
    public var search: ScaleSearch
    /// The index of the matrices' group in ``ShardPlan/scaleGroups``, if the scheme has a scale per matrix.
    public var scaleGroup: Int?
    /// The tensor's name in the importance matrix; `nil` if that does not cover it, or the search ignores weights.
    public var importance: String?

    /// Describes it.
    public init(search: ScaleSearch, scaleGroup: Int? = nil, importance: String? = nil) {
      self.search = search
      self.scaleGroup = scaleGroup
      self.importance = importance
    }
  }
}

// MARK: - Asking

extension ShardPlan.Operation {
  /// The part of a scheme that the tensor is; `nil` for one that holds the values itself.
  public var part: StoredScheme.Part? {
    switch self {
    case .copy, .convert, .pack: nil
    case .encode(let part, _, _), .unpack(let part, _), .carry(let part, _, _): part
    case .shape: .shape
    }
  }

  /// The scheme that the tensor is a part of; `nil` for one that holds the values itself, and for scales that GGUF
  /// keeps beside blocks.
  public var scheme: StoredScheme? {
    switch self {
    case .copy, .convert, .pack: nil
    case .encode(_, let scheme, _), .unpack(_, let scheme), .shape(let scheme): scheme
    case .carry(_, let scheme, _): scheme
    }
  }

  /// Whether values are decoded and re-encoded, so that the source's codes and scales are not in the output.
  public var decodes: Bool {
    switch self {
    case .convert, .encode: true
    case .copy, .pack, .unpack, .carry, .shape: false
    }
  }

  /// How scales are chosen; `nil` if none are.
  public var search: ScaleSearch? {
    if case .encode(_, _, let encoding) = self { encoding.search } else { nil }
  }

  /// The group of matrices that share a scale; `nil` if there is no such scale.
  public var scaleGroup: Int? {
    switch self {
    case .encode(_, _, let encoding): encoding.scaleGroup
    case .carry(_, _, let group): group
    case .copy, .convert, .pack, .unpack, .shape: nil
    }
  }

  /// The tensor's name in the importance matrix; `nil` if no weights are used.
  public var importance: String? {
    switch self {
    case .convert(let name): name
    case .encode(_, _, let encoding): encoding.importance
    case .copy, .pack, .unpack, .carry, .shape: nil
    }
  }
}

extension ShardPlan.Tensor {
  /// Whether its bytes are the source's.
  public var isCopy: Bool {
    switch operation {
    case .copy: true
    case .convert, .encode, .pack, .unpack, .shape: false
    case .carry(.codes, _, _), .carry(.shape, _, _): true
    case .carry(.scales, _, _): source.scaling?.scales?.elementType == elementType
    case .carry(.matrixScales, let scheme, _):
      source.scaling?.matrixScales != nil
        && source.dividesByMatrixScale == (scheme?.dividesByMatrixScale ?? false)
    }
  }

  /// Whether every value is the source's, so that there is no error to measure. Scales and shapes have no error of
  /// their own: it is counted with the codes.
  public var isLossless: Bool {
    switch operation {
    case .copy, .shape: true
    case .convert:
      source.scaling == nil ? source.elementType.isExact(in: elementType) : elementType == .f32
    case .encode(let part, _, _): part != .codes
    case .pack, .unpack, .carry: !movesMatrixScale
    }
  }

  /// Whether these are codes (or blocks) whose matrices' scales are stored as their reciprocals, which rounds them.
  package var movesMatrixScale: Bool {
    switch operation {
    case .pack, .unpack(.codes, _), .carry(.codes, _, _):
      source.scaling?.matrixScales != nil
        && source.dividesByMatrixScale != (operation.scheme?.dividesByMatrixScale ?? false)
    case .copy, .convert, .encode, .unpack, .carry, .shape: false
    }
  }
}

extension ShardPlan.Slice {
  /// Whether the source's values are divided by the scale of their matrix. GGUF multiplies.
  fileprivate var dividesByMatrixScale: Bool { scaling?.scheme?.dividesByMatrixScale ?? false }
}

// MARK: - Coding

extension ShardPlan.Operation: Codable {
  private enum CodingKeys: String, CodingKey {
    case kind, part, scheme, search, scaleGroup, importance
  }

  private enum Kind: String, Codable {
    case copy, convert, encode, pack, unpack, carry, shape
  }

  /// Reads one object: the kind, and what that kind needs.
  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    func part() throws -> StoredScheme.Part {
      let part = try values.decode(StoredScheme.Part.self, forKey: .part)
      guard part != .shape else {
        throw DecodingError.dataCorruptedError(
          forKey: .part, in: values, debugDescription: "a shape has its own operation")
      }
      return part
    }
    func scheme() throws -> StoredScheme { try values.decode(StoredScheme.self, forKey: .scheme) }
    let group = try values.decodeIfPresent(Int.self, forKey: .scaleGroup)
    let importance = try values.decodeIfPresent(String.self, forKey: .importance)
    switch try values.decode(Kind.self, forKey: .kind) {
    case .copy: self = .copy
    case .convert: self = .convert(importance: importance)
    case .encode:
      let search = try values.decode(ScaleSearch.self, forKey: .search)
      self = .encode(
        try part(), of: try scheme(),
        ShardPlan.Encoding(search: search, scaleGroup: group, importance: importance))
    case .pack: self = .pack
    case .unpack:
      let part = try part()
      guard part != .matrixScales else {
        throw DecodingError.dataCorruptedError(
          forKey: .part, in: values, debugDescription: "blocks do not contain the scale of the matrix")
      }
      self = .unpack(part, of: try scheme())
    case .carry:
      self = .carry(
        try part(), of: try values.decodeIfPresent(StoredScheme.self, forKey: .scheme), scaleGroup: group)
    case .shape: self = .shape(of: try scheme())
    }
  }

  /// Writes one object.
  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(kind, forKey: .kind)
    // For a shape, the kind already says it.
    if part != .shape { try values.encodeIfPresent(part, forKey: .part) }
    try values.encodeIfPresent(scheme, forKey: .scheme)
    try values.encodeIfPresent(search, forKey: .search)
    try values.encodeIfPresent(scaleGroup, forKey: .scaleGroup)
    try values.encodeIfPresent(importance, forKey: .importance)
  }

  private var kind: Kind {
    switch self {
    case .copy: .copy
    case .convert: .convert
    case .encode: .encode
    case .pack: .pack
    case .unpack: .unpack
    case .carry: .carry
    case .shape: .shape
    }
  }
}
