public import TensorFormats

/// How one tensor is stored: what a recipe decides.
///
/// An element type is not always the whole answer: block-FP8 is one weight and a second tensor of scales. A further
/// scheme of that kind is one more case here and one more line in ``schemes``; the compiler then names every place
/// that has to know about it, all of them in this file.
public enum StorageFormat: Hashable, Sendable {
  /// One tensor of this element type, plain or in GGML blocks.
  case element(ElementType)
  /// F8_E4M3 with one F32 scale per tile of 128 x 128, in a second tensor `<name>_scale_inv`.
  case blockFP8
  /// The source's own type, bytes untouched.
  case keep
}

// MARK: - Spelling

extension StorageFormat {
  /// The formats that are more than an element type.
  static let schemes: [StorageFormat] = [.keep, .blockFP8]

  /// The element types that a recipe can ask for: everything real that model files hold and an encoder exists for or
  /// may come to exist. Q8_1 and Q8_K are left out because engines use them for activations only.
  public static let elementTargets: [ElementType] =
    [.f32, .f16, .bf16, .f8E4M3, .f8E5M2]
    + ElementType.allCases.filter { $0.isBlockQuantized && $0 != .q8_1 && $0 != .q8K }

  /// Every format there is, in the order in which help texts list them.
  public static let all: [StorageFormat] = schemes + elementTargets.map(StorageFormat.element)

  /// Reads a format as recipes and command lines spell it (`BF16`, `Q4_K`, `FP8_BLOCK`, `keep`); letter case does not
  /// matter, as people used to other tools write `q4_k`.
  ///
  /// - Throws: `.invalidRequest` with the formats there are.
  public init(spelling: String) throws(CheckpointError) {
    let wanted = spelling.uppercased()
    guard let format = StorageFormat.all.first(where: { $0.spelling.uppercased() == wanted }) else {
      let known = StorageFormat.all.map(\.spelling).joined(separator: ", ")
      throw CheckpointError(
        .invalidRequest, "'\(spelling.printable)' is no storage format", remedy: "there are \(known)")
    }
    self = format
  }

  /// The canonical spelling, which ``init(spelling:)`` reads back.
  public var spelling: String {
    switch self {
    case .element(let type): type.rawValue
    case .blockFP8: "FP8_BLOCK"
    case .keep: "keep"
    }
  }
}

extension StorageFormat: CustomStringConvertible {
  /// The canonical spelling.
  public var description: String { spelling }
}

extension StorageFormat: Codable {
  /// Reads the canonical spelling.
  public init(from decoder: any Decoder) throws {
    // Plans hold kept tensors' types too, so any element type is read here, not only those a recipe may ask for.
    let text = try decoder.singleValueContainer().decode(String.self)
    if let type = ElementType(rawValue: text) {
      self = .element(type)
    } else {
      try self.init(spelling: text)
    }
  }

  /// Writes the canonical spelling.
  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(spelling)
  }
}

// MARK: - Fitting

extension StorageFormat {
  /// The side of a block-FP8 tile, in elements.
  public static let tileSide = 128

  /// The element type of the weight itself when a tensor of `source` type is stored this way.
  public func elementType(of source: ElementType) -> ElementType {
    switch self {
    case .element(let type): type
    case .blockFP8: .f8E4M3
    case .keep: source
    }
  }

  /// Why a tensor cannot be stored this way; `nil` if it can.
  ///
  /// - Parameters:
  ///   - shape: The shape stored, row-major; after a tensor-parallel cut that of the slice.
  ///   - source: The source's element type.
  ///   - container: The kind of file.
  public func misfit(_ shape: TensorShape, source: ElementType, in container: Container) -> String? {
    let type = elementType(of: source)
    guard container.holds(type) else {
      return "\(container.displayName) has no type \(type)"
    }
    switch self {
    case .keep: return nil
    case .element:
      let block = type.block.elements
      guard shape.columns % block == 0 else {
        return "rows of \(shape.columns) elements are not whole blocks of \(block) (\(type))"
      }
      return nil
    case .blockFP8:
      return shape.rank >= 2 ? nil : "FP8_BLOCK scales tiles of a matrix, and the shape is \(shape)"
    }
  }

  /// The bytes of a tensor stored this way, its scales included; `nil` if it does not fit or the size overflows.
  public func byteCount(_ shape: TensorShape, source: ElementType) -> Int? {
    guard let weight = shape.byteCount(as: elementType(of: source)) else { return nil }
    switch self {
    case .element, .keep: return weight
    case .blockFP8:
      guard let scales = StorageFormat.tileScaleShape(of: shape)?.byteCount(as: .f32) else { return nil }
      let (sum, overflow) = weight.addingReportingOverflow(scales)
      return overflow ? nil : sum
    }
  }

  /// The shape of the scales of a block-FP8 weight: one per 128 x 128 tile of each matrix, tiles at the edges
  /// partial; `nil` for fewer than two dimensions.
  public static func tileScaleShape(of shape: TensorShape) -> TensorShape? {
    guard shape.rank >= 2 else { return nil }
    var dimensions = shape.dimensions
    for axis in dimensions.indices.suffix(2) {
      let (tiles, rest) = dimensions[axis].quotientAndRemainder(dividingBy: tileSide)
      dimensions[axis] = tiles + (rest > 0 ? 1 : 0)
    }
    return TensorShape(checking: dimensions)
  }
}
