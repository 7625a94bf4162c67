public import Checkpoint
public import Quantization
public import TensorFormats

/// How one tensor is stored: what a recipe decides.
///
/// An element type is not always the whole answer: schemes keep codes and scales in tensors of their own.
public enum StorageFormat: Hashable, Sendable {
  /// One tensor of this element type, plain or in GGML blocks.
  case element(ElementType)
  /// Codes and scales, under one library's names.
  case scheme(StoredScheme)
  /// As the source stores it, bytes untouched.
  case keep
}

// MARK: - Spelling

extension StorageFormat {
  /// F8_E4M3 with one F32 scale per tile of 128 x 128, as StepFun ships it.
  public static let blockFP8 = StorageFormat.scheme(StoredScheme(.fp8Tiles, .fp8))

  /// MXFP4 in safetensors under gpt-oss's names.
  static let safetensorsMXFP4 = StorageFormat.scheme(StoredScheme(.mxfp4, .mxfp4))

  /// The schemes that recipes can ask for, as they spell them.
  ///
  /// `MXFP4` is not among them: it is an element type, and stands for ``safetensorsMXFP4`` in safetensors files.
  static let schemeSpellings: [(spelling: String, scheme: StoredScheme)] = [
    ("FP8_BLOCK", StoredScheme(.fp8Tiles, .fp8)),
    ("FP8_DYNAMIC", StoredScheme(.fp8Channel, .compressedTensors)),
    ("W8A8_INT8", StoredScheme(.int8Channel, .compressedTensors)),
    ("W8A8_INT8_SGLANG", StoredScheme(.int8Channel, .w8a8Int8)),
    ("W4A16", StoredScheme(.int4Group(128), .compressedTensors)),
    ("W4A16_G64", StoredScheme(.int4Group(64), .compressedTensors)),
    ("W4A16_G32", StoredScheme(.int4Group(32), .compressedTensors)),
    ("NVFP4A16", StoredScheme(.nvfp4, .compressedTensors)),
    ("NVFP4A16_MODELOPT", StoredScheme(.nvfp4, .modelOpt)),
    ("MXFP4A16", StoredScheme(.mxfp4, .compressedTensors)),
  ]

  /// The element types that a recipe can ask for: every real type that model files hold and that can, or could, be
  /// encoded. Q8_1 and Q8_K are left out because engines use them only for activations.
  public static let elementTargets: [ElementType] =
    [.f32, .f16, .bf16, .f8E4M3, .f8E5M2]
    + ElementType.allCases.filter { $0.isBlockQuantized && $0 != .q8_1 && $0 != .q8K }

  /// Every format there is, in the order in which help texts list them.
  public static let all: [StorageFormat] =
    [.keep] + schemeSpellings.map { .scheme($0.scheme) } + elementTargets.map(StorageFormat.element)

  /// Reads a format as recipes and command lines spell it (`BF16`, `Q4_K`, `FP8_BLOCK`, `keep`); letter case does not
  /// matter, because other tools write `q4_k`.
  ///
  /// - Throws: `.invalidRequest` listing the valid formats.
  public init(spelling: String) throws(CheckpointError) {
    let wanted = spelling.uppercased()
    guard let format = StorageFormat.all.first(where: { $0.spelling.uppercased() == wanted }) else {
      let known = StorageFormat.all.map(\.spelling).joined(separator: ", ")
      throw CheckpointError(
        .invalidRequest, "'\(spelling.printable)' is not a storage format", remedy: "there are \(known)")
    }
    self = format
  }

  /// The canonical spelling, which ``init(spelling:)`` reads back.
  public var spelling: String {
    switch self {
    case .element(let type): type.rawValue
    case .scheme(let scheme):
      StorageFormat.schemeSpellings.first { $0.scheme == scheme }?.spelling
        ?? (self == StorageFormat.safetensorsMXFP4 ? "MXFP4" : "\(scheme.scheme)")
    case .keep: "keep"
    }
  }

  /// What a spelling means in files of one kind: `MXFP4` is a block format in GGUF and a scheme in safetensors.
  public func resolved(in container: Checkpoint.Format) -> StorageFormat {
    self == .element(.mxfp4) && container == .safetensors ? StorageFormat.safetensorsMXFP4 : self
  }
}

extension StorageFormat: CustomStringConvertible {
  /// The canonical spelling.
  public var description: String { spelling }
}

extension StorageFormat: Codable {
  /// Reads the canonical spelling.
  public init(from decoder: any Decoder) throws {
    // Plans also hold the types of kept tensors, so any element type is accepted here, not only those that a recipe may
    // use.
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
  /// The element type of the weight itself, or of its codes, when a tensor of `source` type is stored this way.
  public func elementType(of source: ElementType) -> ElementType {
    switch self {
    case .element(let type): type
    case .scheme(let scheme): scheme.scheme.geometry.codesType
    case .keep: source
    }
  }

  /// Whether files of this kind support the format at all.
  func exists(in container: Checkpoint.Format, source: ElementType) -> Bool {
    switch self {
    case .element, .keep: container.holds(elementType(of: source))
    case .scheme: container == .safetensors
    }
  }

  /// Why a tensor cannot be stored this way; `nil` if it can.
  ///
  /// - Parameters:
  ///   - shape: The shape stored, row-major; after a tensor-parallel cut that of the slice.
  ///   - source: The source's element type, that of the codes if its scales are separate tensors.
  ///   - scheme: The source's scheme in that case.
  ///   - container: The kind of file.
  public func misfit(
    _ shape: TensorShape, source: ElementType, scheme: StoredScheme? = nil, in container: Checkpoint.Format
  ) -> String? {
    switch self {
    case .keep:
      if let scheme, container == .gguf { return "GGUF has no \(scheme.scheme)" }
      return container.holds(source) ? nil : "\(container.displayName) has no type \(source)"
    case .element(let type):
      guard container.holds(type) else { return "\(container.displayName) has no type \(type)" }
      let block = type.block.elements
      guard block == 1 || shape.elementCount > 0 else {
        return "the shape \(shape) has no elements to group into blocks (\(type))"
      }
      guard shape.columns % block == 0 else {
        return "rows of \(shape.columns) elements are not whole blocks of \(block) (\(type))"
      }
      return nil
    case .scheme(let scheme):
      guard container == .safetensors else {
        return "GGUF has no \(spelling), whose scales are separate tensors"
      }
      guard shape.elementCount > 0 else {
        return "the shape \(shape) has no elements to scale (\(scheme.scheme))"
      }
      return scheme.scheme.misfit(shape)
    }
  }

  /// The bytes of a tensor stored this way, its scales included; `nil` if it does not fit or the size overflows.
  public func byteCount(_ shape: TensorShape, source: ElementType) -> Int? {
    switch self {
    case .element, .keep: return shape.byteCount(as: elementType(of: source))
    case .scheme(let scheme):
      guard let components = scheme.components(of: shape) else { return nil }
      var sum = 0
      for component in components {
        guard let bytes = component.component.shape.byteCount(as: component.component.elementType),
          case let (next, false) = sum.addingReportingOverflow(bytes)
        else { return nil }
        sum = next
      }
      return sum
    }
  }
}
