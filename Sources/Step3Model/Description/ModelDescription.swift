public import Checkpoint
public import TensorFormats

/// What one family of models is made of, as a table: for every module its names, shapes, role, place in a partition and
/// what serving engines make of it. Further families are further values.
///
/// Whoever needs to know something of a module asks this table and spells nothing out. The exceptions are checks, which
/// share nothing with what they check.
public struct ModelDescription: Sendable {
  /// The family that it describes.
  public let family: ModelFamily
  /// The layers of the language model, those of next-token prediction included.
  public let textLayers: Layers
  /// The layers of the vision tower.
  public let visionLayers: Layers
  /// What the published names of the vision side begin with, and no others.
  public let visionPrefixes: [String]
  /// In the order of the forward pass, the language model first. Modules of layers stand together, once for all layers.
  public let modules: [Module]

  /// How layers are named and counted.
  public struct Layers: Sendable {
    /// What stands before the layer's number in published names.
    package let published: String
    /// The same in GGUF.
    let gguf: String
    /// What stands there in names of serving engines' modules, where that is something else.
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
  /// - Precondition: No module and no name is there twice.
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

  /// What is known of a module; `nil` if the family has none such.
  public subscript(module: Step3Module) -> Module? { rows[module].map { modules[$0] } }

  /// The layers of a scope; `nil` for what occurs once.
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
  /// The shape of a tensor in a layer, row-major; `nil` where the configuration gives that layer none. The layer is 0 for
  /// what occurs once.
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
    /// Where it lives when attention and FFN run on different accelerators; the router's place is an option.
    public let side: PartRole
    /// Its tensors before quantisation, in the order in which they are stored.
    public let tensors: [(suffix: Step3TensorName.Suffix, shape: Shape)]
    /// Whether it is a matrix product of the language model's layers, which engines make a linear layer of and quantise.
    public let isLinear: Bool
    /// The axis along which expert parallelism cuts its weight; `nil` for what is no stack of experts.
    public let expertAxis: Int?
    /// The row-major axis along which tensor parallelism cuts its weight; `nil` where every rank has all of it. Scales of
    /// tiles are cut along the same axis.
    public let tensorParallelAxis: Int?
    /// The modules whose rows engines put into one matrix with its rows; they share what there is once for a matrix.
    public let fusion: Fusion?
    /// The names, without the layer, of the modules that engines make of it and its neighbours, vLLM's first; empty where
    /// that is its own.
    public let engineNames: [String]
    /// What has to be added to stored values to get those that the forward pass multiplies with: 1 for norms that are
    /// stored around zero. GGUF holds the sums.
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

    /// The published name of what it is in: `self_attn` of `self_attn.q_proj`; empty where it is in nothing.
    public var parentName: String {
      publishedName.lastIndex(of: ".").map { String(publishedName[..<$0]) } ?? ""
    }

    /// The last part of its published name.
    public var ownName: String {
      publishedName.lastIndex(of: ".").map { String(publishedName[publishedName.index(after: $0)...]) }
        ?? publishedName
    }

    /// The shape of its weight; `nil` where the configuration gives the layer none.
    public func shape(_ configuration: Step3Configuration, layer: Int) -> [Int]? {
      tensors.first?.shape(configuration, layer)
    }
  }

  /// Modules whose rows engines put into one matrix, in this order.
  public struct Fusion: Hashable, Sendable {
    /// The last part of the members' names.
    public let members: [String]
    /// The last part of the name that engines give the whole.
    public let name: String

    /// Queries, keys and values of one input.
    public static let queryKeyValue = Fusion(members: ["q_proj", "k_proj", "v_proj"], name: "qkv_proj")
    /// The two inputs of a gated activation.
    public static let gateUp = Fusion(members: ["gate_proj", "up_proj"], name: "gate_up_proj")
    /// What engines fuse in most models, whose names these are.
    public static let usual = [queryKeyValue, gateUp]
  }
}
