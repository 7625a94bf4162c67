public import Checkpoint
internal import Patterns
public import Quantization
public import TensorFormats

/// A tensor as a recipe sees it: its role, size and model. No bytes.
public struct RecipeSubject: Hashable, Sendable {
  /// The name in the source.
  public var name: String
  /// Further names of the same tensor, such as the one it will have in a GGUF file. Name patterns are matched against
  /// all.
  public var otherNames: [String]
  /// What the tensor is for.
  public var role: TensorRole
  /// The layer it belongs to, counted from 0; `nil` outside the language model's layers.
  public var layer: Int?
  /// How many layers the language model has.
  public var layerCount: Int
  /// The shape stored, row-major; after a tensor-parallel cut that of the slice.
  public var shape: TensorShape
  /// The source's element type; that of the codes if its scales are separate tensors.
  public var sourceType: ElementType
  /// The source's scheme in that case.
  public var sourceScheme: StoredScheme?
  /// The format of the source's files.
  public var sourceContainer: Checkpoint.Format
  /// Whether the outermost dimension counts experts.
  public var isExpertStack: Bool
  /// How many routed experts a layer has; 0 in a model without.
  public var expertCount: Int
  /// Whether the model has no output projection of its own and uses the embedding for it.
  public var hasTiedEmbedding: Bool
  /// The type that the model's published checkpoints store it in; `nil` if that is not known.
  public var publishedType: ElementType?
  /// Whether it is a convolution that GGUF readers expect in half precision, in half-precision files.
  public var isHalfConvolution: Bool
  /// Whether serving engines would load it as a linear layer that a scheme may quantise. In an unknown model, any
  /// matrix may be one.
  public var isLinear: Bool

  /// Describes a tensor.
  ///
  /// - Parameters:
  ///   - name: See ``name``.
  ///   - otherNames: See ``otherNames``.
  ///   - role: See ``role``.
  ///   - layer: See ``layer``.
  ///   - layerCount: See ``layerCount``.
  ///   - shape: See ``shape``.
  ///   - sourceType: See ``sourceType``.
  ///   - sourceScheme: See ``sourceScheme``.
  ///   - sourceContainer: See ``sourceContainer``.
  ///   - isExpertStack: Derived when `nil`: three dimensions, in a role where the outermost of them can only be
  ///     experts.
  ///   - expertCount: See ``expertCount``.
  ///   - hasTiedEmbedding: See ``hasTiedEmbedding``.
  ///   - publishedType: See ``publishedType``.
  ///   - isHalfConvolution: See ``isHalfConvolution``.
  ///   - isLinear: See ``isLinear``.
  public init(
    name: String, otherNames: [String] = [], role: TensorRole, layer: Int?, layerCount: Int,
    shape: TensorShape,
    sourceType: ElementType, sourceScheme: StoredScheme? = nil,
    sourceContainer: Checkpoint.Format = .safetensors,
    isExpertStack: Bool? = nil,
    expertCount: Int = 0, hasTiedEmbedding: Bool = false, publishedType: ElementType? = nil,
    isHalfConvolution: Bool = false, isLinear: Bool = true
  ) {
    self.name = name
    self.otherNames = otherNames
    self.role = role
    self.layer = layer
    self.layerCount = layerCount
    self.shape = shape
    self.sourceType = sourceType
    self.sourceScheme = sourceScheme
    self.sourceContainer = sourceContainer
    self.isExpertStack = isExpertStack ?? (shape.rank == 3 && (role == .routedExperts || role == .other))
    self.expertCount = expertCount
    self.hasTiedEmbedding = hasTiedEmbedding
    self.publishedType = publishedType
    self.isHalfConvolution = isHalfConvolution
    self.isLinear = isLinear
  }

  /// All names, for matching patterns.
  var nameBytes: [NameBytes] { ([name] + otherNames).map(NameBytes.init) }
}
