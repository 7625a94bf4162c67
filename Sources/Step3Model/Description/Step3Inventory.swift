public import Checkpoint
public import TensorFormats

/// The complete list of tensors a checkpoint of a configuration has.
public struct Step3Inventory: Sendable {
  /// One expected tensor.
  public struct Tensor: Hashable, Sendable {
    /// The parsed name.
    public let name: Step3TensorName
    /// The name in published checkpoints.
    public let publishedName: String
    /// The name in GGUF files; `nil` where there is none.
    public let ggufName: String?
    /// Row-major.
    public let shape: TensorShape
    /// The type the published checkpoints store it in.
    public let elementType: ElementType

    /// What the tensor is for.
    public let role: TensorRole
    /// The layer, counted from 0; `nil` for modules that occur once.
    public var layer: Int? { name.layer }
  }

  /// In the order of the forward pass, the language model first; scales follow their weight.
  public private(set) var tensors: [Tensor] = []

  /// Elements of everything but scales.
  public private(set) var parameterCount = 0

  /// Stored bytes, scales included.
  public private(set) var byteCount = 0

  private let model: ModelDescription

  /// Lists the tensors of a configuration: plain BF16, or block-FP8 where its quantisation says so.
  ///
  /// - Throws: `.unsupported` for another quantisation, whose layout depends on more than the configuration, and for
  ///   dimensions that are not positive or whose tensors no machine could hold.
  public init(_ configuration: Step3Configuration) throws(CheckpointError) {
    try self.init(configuration, of: configuration.family.model)
  }

  /// The same with a given description.
  ///
  /// - Throws: As ``init(_:)``.
  package init(_ configuration: Step3Configuration, of model: ModelDescription) throws(CheckpointError) {
    var tile: (rows: Int, columns: Int)?
    if let quantization = configuration.quantization {
      guard quantization.method == "fp8", let block = quantization.blockSize, block.count == 2,
        block[0] > 0, block[1] > 0
      else {
        throw CheckpointError(
          .unsupported,
          "quantization_config: expected quant_method fp8 with weight_block_size, found '\(quantization.method.printable)'"
        )
      }
      tile = (block[0], block[1])
    }
    try Self.checkFactors(configuration)
    self.model = model
    let rows = model.modules
    var start = 0
    while start < rows.count {
      // Modules of layers are contiguous, and each layer has all of them before the next begins.
      let scope = rows[start].scope
      let end = scope == .global ? start + 1 : rows[start...].firstIndex { $0.scope != scope } ?? rows.count
      for layer in 0..<(model.layers(of: scope)?.count(configuration) ?? 1) {
        for row in rows[start..<end] {
          for (suffix, shape) in row.tensors {
            guard let dimensions = shape(configuration, layer) else { continue }
            let name = Step3TensorName(row.module, layer: scope == .global ? nil : layer, suffix: suffix)
            try add(
              name, dimensions, type: row.elementType,
              tile: suffix == .weight && row.isLinear ? tile : nil)
          }
        }
      }
      start = end
    }
  }

  /// Checks factors and counts before making shapes, which check the rest.
  private static func checkFactors(_ configuration: Step3Configuration) throws(CheckpointError) {
    let text = configuration.text
    var factors = [
      ("num_hidden_layers", text.layerCount), ("num_attention_heads", text.headCount),
      ("num_attention_groups", text.keyValueHeadCount), ("head_dim", text.headDimension),
    ]
    if text.predictionLayerCount > 0 {
      factors.append(("num_nextn_predict_layers", text.predictionLayerCount))
    }
    if let sliding = text.sliding {
      factors += [
        ("num_sliding_attention_heads", sliding.headCount),
        ("attention_other_setting.num_attention_groups", sliding.keyValueHeadCount),
      ]
    }
    if let indexer = text.indexer {
      factors += [
        ("sparse_config.sparse_indexer_num_heads", indexer.headCount),
        ("sparse_config.proxy_dim", indexer.dimension),
      ]
    }
    if let vision = configuration.vision {
      factors += [
        ("vision_config.image_size", vision.imageSize), ("vision_config.patch_size", vision.patchSize),
        ("vision_config.hidden_size", vision.hiddenSize),
        ("vision_config.num_hidden_layers", vision.layerCount),
        ("vision_config.output_hidden_size", vision.outputSize),
      ]
    }
    for (name, factor) in factors where !(1...1_048_576).contains(factor) {
      throw CheckpointError(.unsupported, "\(name): expected 1 to 1048576, found \(factor)")
    }
  }

  private mutating func add(
    _ name: Step3TensorName, _ dimensions: [Int], type: ElementType, tile: (rows: Int, columns: Int)?
  ) throws(CheckpointError) {
    try append(name, dimensions, tile == nil ? type : .f8E4M3)
    guard let tile else { return }
    var scales = dimensions
    let rank = dimensions.count
    scales[rank - 2] = (dimensions[rank - 2] - 1) / tile.rows + 1
    scales[rank - 1] = (dimensions[rank - 1] - 1) / tile.columns + 1
    try append(Step3TensorName(name.module, layer: name.layer, suffix: .weightScaleInverse), scales, .f32)
  }

  private mutating func append(
    _ name: Step3TensorName, _ dimensions: [Int], _ type: ElementType
  ) throws(CheckpointError) {
    guard dimensions.allSatisfy({ $0 > 0 }), let shape = TensorShape(checking: dimensions),
      let bytes = shape.byteCount(as: type)
    else {
      throw CheckpointError(
        .unsupported, "the configuration gives it the impossible shape \(dimensions)",
        tensor: model.published(name))
    }
    let (total, overflow) = byteCount.addingReportingOverflow(bytes)
    guard !overflow else {
      throw CheckpointError(.unsupported, "the configuration describes more than 2^63 bytes of tensors")
    }
    byteCount = total
    // Every element takes at least a byte, so this sum cannot overflow first.
    if !name.suffix.isScale { parameterCount += shape.elementCount }
    tensors.append(
      Tensor(
        name: name, publishedName: model.published(name), ggufName: model.gguf(name),
        shape: shape, elementType: type, role: model.role(of: name)))
  }
}

extension Step3Inventory {
  /// A way in which a checkpoint differs from its configuration.
  public enum Issue: Hashable, Sendable {
    case missing(name: String, expected: TensorShape)
    case unexpected(name: String, shape: TensorShape)
    case wrongShape(name: String, expected: TensorShape, found: TensorShape)
    case duplicate(name: String)
  }

  /// Compares a checkpoint's tensors, by their Hugging Face names, with this list. Missing ones come first, in the
  /// order of the forward pass. O(n).
  public func issues(with found: some Sequence<(name: String, shape: TensorShape)>) -> [Issue] {
    var shapes: [String: TensorShape] = [:]
    var order: [String] = []
    var duplicates: [Issue] = []
    for (name, shape) in found {
      if shapes.updateValue(shape, forKey: name) == nil {
        order.append(name)
      } else {
        duplicates.append(.duplicate(name: name))
      }
    }
    var missing: [Issue] = []
    var wrong: [Issue] = []
    for tensor in tensors {
      let name = tensor.publishedName
      guard let shape = shapes.removeValue(forKey: name) else {
        missing.append(.missing(name: name, expected: tensor.shape))
        continue
      }
      if shape != tensor.shape { wrong.append(.wrongShape(name: name, expected: tensor.shape, found: shape)) }
    }
    let unexpected = order.compactMap { name in shapes[name].map { Issue.unexpected(name: name, shape: $0) } }
    return missing + wrong + unexpected + duplicates
  }
}

extension Step3Inventory.Issue: CustomStringConvertible {
  /// One sentence without a full stop.
  public var description: String {
    switch self {
    case .missing(let name, let expected): "'\(name.printable)' is missing; expected shape \(expected)"
    case .unexpected(let name, let shape): "'\(name.printable)' of shape \(shape) is not part of the model"
    case .wrongShape(let name, let expected, let found):
      "'\(name.printable)' has shape \(found); expected \(expected)"
    case .duplicate(let name): "'\(name.printable)' occurs more than once"
    }
  }
}
