internal import Checkpoint
internal import JSON
internal import Quantization
internal import ServingEngines
internal import Step3Model
internal import TensorFormats

extension OutputPart {
  private static let quantizationKey = "quantization_config"
  static let textKey = "text_config"

  /// The part's `config.json`: the source's, changed only where the output differs, or where engines could not
  /// read it.
  ///
  /// - Throws: What is wrong with an unreadable configuration, with its file.
  func configuration(
    for part: ShardPlan.Part
  ) throws(CheckpointError) -> (text: String?, amendments: [ShardPlan.Amendment]) {
    try model.checkpoint.requireReadableConfiguration()
    let document = model.checkpoint.configurationDocument
    if request.format == .gguf, let document { try model.step3?.requireAllRead(path: document.path) }
    let source: [UInt8]
    if let document {
      source = document.text
    } else if let step3 = model.step3 {
      source = try step3.configJSON()
    } else {
      return (nil, [])
    }
    // A copy keeps the configuration byte for byte.
    if model.isRaw {
      let mark = document?.hasByteOrderMark == true ? "\u{FEFF}" : ""
      return (mark + String(decoding: source, as: UTF8.self), [])
    }
    do throws(CheckpointError) {
      var text = try ConfigurationText(source)
      let original = text
      try setQuantization(&text)
      if part.role != .model { text[ConfigurationDocument.partitionKey] = partition(part).text }
      var amendments = try amend(&text)
      if document?.hasByteOrderMark == true {
        amendments.append(
          ShardPlan.Amendment(
            key: "the file", reason: "began with a byte order mark, which Python's json refuses"))
      }
      // Nothing to change: the bytes stay as they are.
      return (text == original ? String(decoding: source, as: UTF8.self) : text.text(), amendments)
    } catch {
      throw error.at(path: document?.path ?? model.checkpoint.path)
    }
  }
}

// MARK: - Quantisation

extension OutputPart {
  private func setQuantization(_ text: inout ConfigurationText) throws(CheckpointError) {
    let isQuantized = weights.contains { $0.scheme != nil }
    // The source's statement holds for the output if it made one and every weight is unchanged.
    let isStated = model.isQuantized && text.stated(Self.quantizationKey) != nil
    if isQuantized, model.isQuantizationStated,
      weights.allSatisfy({ $0.scheme == $0.source.scheme && ($0.isCopy || $0.scheme == nil) }),
      isStated || weights.allSatisfy(\.treatment.isKept)
    {
      return
    }
    // Engines look in these places too, and a statement about weights that are no longer quantised would be false.
    let inner = try text.object(Self.textKey)
    let isClaimed =
      [text, inner].contains { $0?.stated(Self.quantizationKey) != nil }
      || text.stated("compression_config") != nil
    guard isQuantized || model.isQuantized || isClaimed else { return }
    text["compression_config"] = nil
    if var inner = try text.object(Self.textKey), inner[Self.quantizationKey] != nil {
      inner[Self.quantizationKey] = nil
      text[Self.textKey] = inner.text(indentation: 2)
    }
    // A part without quantised tensors, such as the vision side, must not claim any.
    let modules = try QuantizedModules(weights.map(\.written), of: model.step3?.family.model)
    text[Self.quantizationKey] = modules.map { QuantizationConfiguration($0).text }
  }
}

// MARK: - Corrections for engines

extension OutputPart {
  /// Corrects what does not concern quantisation: the list of MoE layers, and the type of activations.
  private func amend(_ text: inout ConfigurationText) throws(CheckpointError) -> [ShardPlan.Amendment] {
    guard request.format == .safetensors else { return [] }
    var amendments: [ShardPlan.Amendment] = []
    switch model.step3 {
    case let step3? where step3.family == .step3: amendments += try amendLayers(&text, step3)
    case let step3? where step3.family == .step5: amendments += try amendPreview(&text, step3)
    default: break
    }
    if let type = changedType {
      amendments += Self.amendType(&text, type, at: "")
      for key in Self.languageKeys {
        guard var inner = try text.object(key) else { continue }
        let changes = Self.amendType(&inner, type, at: "\(key).")
        guard !changes.isEmpty else { continue }
        text[key] = inner.text(indentation: 2)
        amendments += changes
      }
    }
    return amendments
  }

  /// Where multimodal models describe their language side.
  private static let languageKeys = [textKey, "llm_config", "language_config"]

  private func amendLayers(
    _ text: inout ConfigurationText, _ step3: Step3Configuration
  ) throws(CheckpointError) -> [ShardPlan.Amendment] {
    let key = "moe_layers_enum"
    var inner = try text.object(Self.textKey)
    let layers = (inner ?? text).stated(key)
    guard layers?.hasPrefix("\"") != true else { return [] }
    let list = JSONText.quoted(step3.text.moeLayers.map(String.init).joined(separator: ","))
    let place = inner == nil ? "" : "\(Self.textKey)."
    if inner == nil { text[key] = list } else { inner?[key] = list }
    if let inner { text[Self.textKey] = inner.text(indentation: 2) }
    return [
      ShardPlan.Amendment(
        key: place + key,
        reason: layers == nil
          ? "was missing, and vLLM and SGLang require it"
          : "was a list, but vLLM and SGLang read a string of numbers and commas")
    ]
  }

  private static func amendType(
    _ text: inout ConfigurationText, _ type: String, at place: String
  ) -> [ShardPlan.Amendment] {
    let value = JSONText.quoted(type)
    var amendments: [ShardPlan.Amendment] = []
    for key in ["torch_dtype", "dtype"] {
      guard let old = text.stated(key), old != value else { continue }
      text[key] = value
      amendments.append(
        ShardPlan.Amendment(key: place + key, reason: "was \(old), but the weights are \(type) now"))
    }
    return amendments
  }

  /// PyTorch's name for the type that most plain elements of the part now have, if it has changed.
  private var changedType: String? {
    let plain = [ElementType.bf16: "bfloat16", .f16: "float16", .f32: "float32"]
    var (before, after): ([ElementType: Int], [ElementType: Int]) = ([:], [:])
    for weight in weights
    where weight.shape.rank >= 2 && EngineModules.isLinear(weight.written, ofKnownModel: model.step3 != nil) {
      if weight.source.scheme == nil {
        before[weight.source.elementType, default: 0] += weight.shape.elementCount
      }
      if weight.scheme == nil { after[weight.treatment.elementType, default: 0] += weight.shape.elementCount }
    }
    func most(_ counts: [ElementType: Int]) -> ElementType? {
      counts.filter { plain[$0.key] != nil }.max {
        ($0.value, $1.key.rawValue) < ($1.value, $0.key.rawValue)
      }?
      .key
    }
    // Computation with quantised weights is always in BF16.
    guard let now = most(after), now != most(before) ?? .bf16 else { return nil }
    return plain[now]
  }
}

extension PlacedTensor {
  /// What engines are told about it.
  fileprivate var written: WrittenWeight {
    WrittenWeight(
      name: source.name, publishedName: source.safetensorsName, role: source.role, layer: source.layer,
      rank: shape.rank, isExpertStack: source.isExpertStack, predicts: source.predicts,
      scheme: scheme)
  }
}

// MARK: - Parts

extension OutputPart {
  /// Which part of the set it is.
  func identity(of part: ShardPlan.Part) -> PartIdentity {
    PartIdentity(
      part.role, expertParallel: part.expertParallel, tensorParallel: part.tensorParallel,
      routesInFFN: request.router == .ffn)
  }

  /// The part's identity, and which boxes it holds of tensors that it holds only partly.
  private func partition(_ part: ShardPlan.Part) -> PartitionRecord {
    // Boxes of codes count the elements that they stand for; all others count their own.
    let boxes = Dictionary(
      weights.compactMap { weight in weight.isWhole ? nil : (weight.slice, weight) },
      uniquingKeysWith: { first, _ in first })
    return PartitionRecord(
      identity(of: part),
      slices: part.tensors.compactMap { tensor in
        boxes[tensor.source]?.box(of: tensor).map { PartitionRecord.Slice(tensor: tensor.name, box: $0) }
      })
  }
}

extension PlacedTensor {
  /// The box of the unpartitioned model's tensor that one of its tensors is; `nil` if it is whole.
  fileprivate func box(of tensor: ShardPlan.Tensor) -> TensorBox? {
    var shape = source.shape.dimensions
    var (origin, extent) = (box.origin, box.extent)
    let rank = shape.count
    func placed(_ shape: [Int], _ origin: [Int], _ extent: [Int]) -> TensorBox? {
      TensorBox(TensorShape(shape), origin: origin, extent: extent)
    }
    func divide(_ axis: Int, by unit: Int) {
      shape[axis] = (shape[axis] + unit - 1) / unit
      origin[axis] /= unit
      extent[axis] = (extent[axis] + unit - 1) / unit
    }
    switch tensor.operation.part {
    case nil where tensor.role == source.role, .codes: return placed(shape, origin, extent)
    case nil, .shape: return nil
    case .scales:
      guard let scheme = tensor.operation.scheme?.scheme else { return nil }
      divide(rank - 2, by: scheme.geometry.scaleHeight)
      if let width = scheme.geometry.scaleWidth {
        divide(rank - 1, by: width)
      } else {
        (shape[rank - 1], origin[rank - 1], extent[rank - 1]) = (1, 0, 1)
      }
    case .matrixScales:
      guard rank == 3 else { return nil }
      (shape, origin, extent) = ([shape[0]], [origin[0]], [extent[0]])
    }
    return extent == tensor.shape.dimensions && extent != shape ? placed(shape, origin, extent) : nil
  }
}
