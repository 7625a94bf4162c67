internal import Checkpoint
internal import TensorFormats

extension ModelDescription.Module {
  typealias Text = Step3Configuration.Text
  typealias Vision = Step3Configuration.Vision

  /// A module of the language model outside its layers.
  static func once(
    _ module: Step3Module, _ published: String, _ gguf: String, _ role: TensorRole, offset: Float = 0,
    type: ElementType = .bf16, _ shape: @escaping @Sendable (Text) -> [Int]
  ) -> Self {
    Self(
      module: module, scope: .global, publishedName: published, ggufName: gguf, role: role, side: .attention,
      tensors: [(.weight, { configuration, _ in shape(configuration.text) })], offset: offset,
      elementType: type)
  }

  /// A module of every layer's attention side.
  static func attention(
    _ module: Step3Module, _ published: String, _ gguf: String, _ role: TensorRole = .attention,
    isLinear: Bool = false, cut: Int? = nil, fusion: ModelDescription.Fusion? = nil,
    engineNames: [String] = [], _ shape: @escaping @Sendable (Text) -> [Int]
  ) -> Self {
    Self(
      module: module, scope: .textLayer, publishedName: published, ggufName: gguf, role: role,
      side: .attention, tensors: [(.weight, { configuration, _ in shape(configuration.text) })],
      isLinear: isLinear, cut: cut, fusion: fusion, engineNames: engineNames)
  }

  /// A module of the feed-forward networks of some layers.
  static func ffn(
    _ module: Step3Module, _ published: String, _ gguf: String, _ role: TensorRole, isLinear: Bool = true,
    experts: Int? = nil, cut: Int? = nil, fusion: ModelDescription.Fusion? = nil, engineNames: [String] = [],
    _ shape: @escaping @Sendable (Text, _ layer: Int) -> [Int]?
  ) -> Self {
    Self(
      module: module, scope: .textLayer, publishedName: published, ggufName: gguf, role: role,
      side: role == .router ? .attention : .ffn,
      tensors: [(.weight, { configuration, layer in shape(configuration.text, layer) })], isLinear: isLinear,
      experts: experts, cut: cut, fusion: fusion, engineNames: engineNames)
  }

  /// A module of some layers of a later member's language model.
  static func layer(
    _ module: Step3Module, _ published: String, _ gguf: String?, _ role: TensorRole,
    side: PartRole = .attention,
    suffix: Step3TensorName.Suffix = .weight, hasBias: Bool = false, isLinear: Bool = false, cut: Int? = nil,
    fusion: ModelDescription.Fusion? = nil, engineNames: [String] = [], offset: Float = 0,
    type: ElementType = .bf16, _ shape: @escaping @Sendable (Text, _ layer: Int) -> [Int]?
  ) -> Self {
    var tensors: [(suffix: Step3TensorName.Suffix, shape: ModelDescription.Shape)] = [
      (suffix, { configuration, layer in shape(configuration.text, layer) })
    ]
    if hasBias { tensors.append((.bias, { configuration, layer in shape(configuration.text, layer) })) }
    return Self(
      module: module, scope: .textLayer, publishedName: published, ggufName: gguf, role: role, side: side,
      tensors: tensors, isLinear: isLinear, cut: cut, fusion: fusion, engineNames: engineNames,
      offset: offset,
      elementType: type)
  }

  /// The projection from the vision side to the text.
  static func visionProjector(engineNames: [String] = []) -> Self {
    Self(
      module: .projector, scope: .global, publishedName: "vit_large_projector", ggufName: "mm.model.fc",
      role: .projector, side: .vision,
      tensors: [
        (
          .weight,
          { configuration, _ in
            configuration.vision.map { [configuration.text.hiddenSize, 2 * $0.outputSize] }
          }
        ),
        (
          .bias,
          { configuration, _ in
            configuration.vision?.projectorBias == true ? [configuration.text.hiddenSize] : nil
          }
        ),
      ], engineNames: engineNames)
  }

  /// A module of the vision side, whose bias has one element per row.
  static func vision(
    _ module: Step3Module, _ published: String, _ gguf: String, _ scope: ModelDescription.Scope = .global,
    role: TensorRole = .vision, suffix: Step3TensorName.Suffix = .weight, hasBias: Bool = false,
    engineNames: [String] = [],
    _ shape: @escaping @Sendable (Vision) -> [Int]
  ) -> Self {
    var tensors: [(suffix: Step3TensorName.Suffix, shape: ModelDescription.Shape)] = [
      (suffix, { configuration, _ in configuration.vision.map(shape) })
    ]
    if hasBias {
      tensors.append((.bias, { configuration, _ in configuration.vision.map { [shape($0)[0]] } }))
    }
    return Self(
      module: module, scope: scope, publishedName: published, ggufName: gguf, role: role, side: .vision,
      tensors: tensors, engineNames: engineNames)
  }
}
