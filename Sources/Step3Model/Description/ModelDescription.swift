public import Checkpoint
public import TensorFormats

/// What one family of models is made of, as a table: for every module its names, shapes, role, place in a partition and
/// treatment by serving engines. Each further family is one more value.
///
/// All knowledge about modules comes from this table, and names are spelled out nowhere else. The exceptions are
/// checks, which share nothing with what they check.
public struct ModelDescription: Sendable {
  /// The family that it describes.
  public let family: ModelFamily
  /// The layers of the language model, those of next-token prediction included.
  public let textLayers: Layers
  /// The layers of the vision tower.
  public let visionLayers: Layers
  /// The prefixes of published names of the vision side, used by no other names.
  public let visionPrefixes: [String]
  /// In the order of the forward pass, the language model first. Modules of layers are contiguous, listed once for all
  /// layers.
  public let modules: [Module]

  /// How layers are named and counted.
  public struct Layers: Sendable {
    /// The prefix before the layer's number in published names.
    package let published: String
    /// The same in GGUF.
    let gguf: String
    /// The prefixes in names of serving engines' modules, where different.
    package let engines: [String]
    /// How many there are.
    let count: @Sendable (Step3Configuration) -> Int

    /// Describes layers.
    package init(
      published: String, gguf: String, engines: [String] = [],
      count: @escaping @Sendable (Step3Configuration) -> Int
    ) {
      self.published = published
      self.gguf = gguf
      self.engines = engines
      self.count = count
    }
  }

  /// Where a module occurs.
  public enum Scope: Hashable, Sendable {
    /// Once.
    case global
    /// In layers of the language model.
    case textLayer
    /// In layers of the vision tower.
    case visionLayer
  }

  private let rows: [Step3Module: Int]
  let published: [NameKey: Step3Module]
  let gguf: [NameKey: Step3Module]

  /// Makes a description.
  ///
  /// - Precondition: No module and no name appears twice.
  package init(
    family: ModelFamily, textLayers: Layers, visionLayers: Layers, visionPrefixes: [String], modules: [Module]
  ) {
    self.family = family
    self.textLayers = textLayers
    self.visionLayers = visionLayers
    self.visionPrefixes = visionPrefixes
    self.modules = modules
    rows = Dictionary(uniqueKeysWithValues: modules.enumerated().map { ($1.module, $0) })
    published = Dictionary(
      uniqueKeysWithValues: modules.map { (NameKey(scope: $0.scope, stem: $0.publishedName), $0.module) })
    gguf = Dictionary(
      uniqueKeysWithValues: modules.compactMap { row in
        row.ggufName.map { (NameKey(scope: row.scope, stem: $0), row.module) }
      })
  }

  /// The description of a module; `nil` if the family does not have it.
  public subscript(module: Step3Module) -> Module? { rows[module].map { modules[$0] } }

  /// The layers of a scope; `nil` for modules that occur once.
  func layers(of scope: Scope) -> Layers? {
    switch scope {
    case .global: nil
    case .textLayer: textLayers
    case .visionLayer: visionLayers
    }
  }
}

// MARK: - A module

extension ModelDescription {
  /// The shape of a tensor in a layer, row-major; `nil` if the layer does not have it under this configuration. The
  /// layer is 0 for modules that occur once.
  public typealias Shape = @Sendable (Step3Configuration, _ layer: Int) -> [Int]?

  /// One row of the table.
  public struct Module: Sendable {
    /// Which module.
    public let module: Step3Module
    /// Where it occurs.
    public let scope: Scope
    /// Its published name, without the layer.
    public let publishedName: String
    /// Its name in GGUF, without the layer; `nil` where GGUF has none.
    public let ggufName: String?
    /// What its weights are for.
    public let role: TensorRole
    /// Which side holds it when attention and FFN run on different accelerators; the router's side is an option.
    public let side: PartRole
    /// Its tensors before quantisation, in the order in which they are stored.
    public let tensors: [(suffix: Step3TensorName.Suffix, shape: Shape)]
    /// Whether it is a matrix product in the language model's layers, which engines load as a linear layer and
    /// quantise.
    public let isLinear: Bool
    /// The axis along which expert parallelism cuts its weight; `nil` if it is not a stack of experts.
    public let expertAxis: Int?
    /// The row-major axis along which tensor parallelism cuts its weight; `nil` if every rank has all of it. Scales of
    /// tiles are cut along the same axis.
    public let tensorParallelAxis: Int?
    /// The modules whose rows engines combine with its own into one matrix; they share anything stored once per matrix.
    public let fusion: Fusion?
    /// The names, without the layer, of the engines' modules for it and its neighbours, vLLM's first; empty if it keeps
    /// its own.
    public let engineNames: [String]
    /// What has to be added to stored values to get those that the forward pass multiplies by: 1 for norms stored
    /// around zero. GGUF holds the sums.
    public let offset: Float
    /// The type that the published BF16 checkpoints store it in.
    public let elementType: ElementType

    /// Describes a module.
    package init(
      module: Step3Module, scope: Scope, publishedName: String, ggufName: String?,
      role: TensorRole, side: PartRole,
      tensors: [(suffix: Step3TensorName.Suffix, shape: Shape)], isLinear: Bool = false,
      experts expertAxis: Int? = nil, cut tensorParallelAxis: Int? = nil,
      fusion: Fusion? = nil, engineNames: [String] = [], offset: Float = 0,
      elementType: ElementType = .bf16
    ) {
      self.module = module
      self.scope = scope
      self.publishedName = publishedName
      self.ggufName = ggufName
      self.role = role
      self.side = side
      self.tensors = tensors
      self.isLinear = isLinear
      self.expertAxis = expertAxis
      self.tensorParallelAxis = tensorParallelAxis
      self.fusion = fusion
      self.engineNames = engineNames
      self.offset = offset
      self.elementType = elementType
    }

    /// Whether it belongs to the vision tower, the down-samplers or the projector, which GGUF keeps in a second file.
    public var isVision: Bool { role == .vision || role == .projector }

    /// Whether its only tensor has no suffix.
    var isBare: Bool { tensors.allSatisfy { $0.suffix == .none } }

    /// The published name of its parent: `self_attn` of `self_attn.q_proj`; empty if it has none.
    public var parentName: String {
      publishedName.lastIndex(of: ".").map { String(publishedName[..<$0]) } ?? ""
    }

    /// The last part of its published name.
    public var ownName: String {
      publishedName.lastIndex(of: ".").map { String(publishedName[publishedName.index(after: $0)...]) }
        ?? publishedName
    }

    /// The shape of its weight; `nil` if the layer does not have it under this configuration.
    public func shape(_ configuration: Step3Configuration, layer: Int) -> [Int]? {
      tensors.first?.shape(configuration, layer)
    }
  }

  /// Modules whose rows engines combine into one matrix, in this order.
  public struct Fusion: Hashable, Sendable {
    /// The last part of the members' names.
    public let members: [String]
    /// The last part of the fused module's name in engines.
    public let name: String

    /// Queries, keys and values of one input.
    public static let queryKeyValue = Fusion(members: ["q_proj", "k_proj", "v_proj"], name: "qkv_proj")
    /// The two inputs of a gated activation.
    public static let gateUp = Fusion(members: ["gate_proj", "up_proj"], name: "gate_up_proj")
    /// What engines fuse in most models.
    public static let usual = [queryKeyValue, gateUp]
  }
}
