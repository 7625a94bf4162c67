internal import StoredWeights
internal import Checkpoint
internal import Quantization
internal import ServingEngines
internal import Step3Model
internal import TensorFormats

/// Makes the output tensors from the placed weights: one for each, or the components of its scheme.
struct OutputTensors {
  private let model: SourceModel
  private let format: Checkpoint.Format
  /// The tensors of each part.
  private(set) var parts: [[OutputTensor]]
  /// Which matrices share a scale.
  private(set) var scaleGroups: [ShardPlan.ScaleGroup] = []
  /// The scale tensors that are carried over, by the weight's tensor.
  private(set) var carried: [String: [String]] = [:]

  private var groupNumbers: [String: Int] = [:]

  /// - Throws: `.invalidRequest` if weights that must be one tensor are not stored alike.
  init(
    _ tensors: [PlacedTensor], parts count: Int, of model: SourceModel, format: Checkpoint.Format
  ) throws(CheckpointError) {
    self.model = model
    self.format = format
    parts = Array(repeating: [], count: count)
    groupScales(tensors)
    var joined: [Joined: [PlacedTensor]] = [:]
    for tensor in tensors {
      note(tensor)
      guard let scheme = tensor.scheme else {
        let blocks = OutputTensor(tensor)
        parts[tensor.part].append(blocks)
        if format == .gguf, let scales = blocks.matrixScalesBeside { parts[tensor.part].append(scales) }
        continue
      }
      let module = try module(of: tensor, scheme)
      if module.count == 1 {
        parts[tensor.part] += OutputTensor.components(
          of: module.name, [tensor], scheme, scaleGroup: group(of: tensor, scheme),
          statesShape: statesShape(module.name, isKept: tensor.treatment.isKept))
        continue
      }
      let key = Joined(part: tensor.part, module: module.name)
      joined[key, default: []].append(tensor)
      guard joined[key]?.count == module.count, let members = joined.removeValue(forKey: key) else {
        continue
      }
      parts[tensor.part] += try join(members, scheme, module: module.name)
    }
    if let lonely = joined.values.first?.first {
      throw CheckpointError(
        .invalidRequest,
        "engines need it and its neighbours as one tensor, but they are not all stored in one scheme",
        tensor: lonely.source.name, remedy: "store queries, keys and values of a layer alike")
    }
  }

  private struct Joined: Hashable {
    let part: Int
    let module: String
  }

  private func join(
    _ members: [PlacedTensor], _ scheme: StoredScheme, module: String
  ) throws(CheckpointError) -> [OutputTensor] {
    if let odd = members.first(where: { !$0.isWhole || !$0.treatment.isLike(members[0].treatment) }) {
      throw CheckpointError(
        .invalidRequest, "engines need it and its neighbours as one tensor, but they are not stored alike",
        tensor: odd.source.name, remedy: "store queries, keys and values of a layer alike")
    }
    let ordered = members.sorted { place(of: $0) < place(of: $1) }
    return OutputTensor.components(
      of: module, ordered, scheme, scaleGroup: group(of: ordered[0], scheme),
      statesShape: statesShape(module, isKept: ordered[0].treatment.isKept))
  }

  /// A kept module gets no additional tensors.
  private func statesShape(_ module: String, isKept: Bool) -> Bool {
    !isKept || model.checkpoint["\(module).weight_shape"] != nil
  }

  /// The module whose tensors a weight becomes, and how many weights it has.
  private func module(
    of tensor: PlacedTensor, _ scheme: StoredScheme
  ) throws(CheckpointError) -> (name: String, count: Int) {
    let (source, isKept) = (tensor.source, tensor.treatment.isKept)
    if isKept, source.isFused {
      let codes = source.stored.codes.name
      return (
        String(codes.dropLast(scheme.codesSuffix.count + 1)),
        model.tensors.count { $0.stored.codes.name == codes }
      )
    }
    guard let module = EngineModules.module(of: source.safetensorsName) else {
      throw CheckpointError(
        .unsupported, "only a tensor whose name ends in .weight can be stored in a scheme",
        tensor: source.name)
    }
    guard !isKept, model.step3?.family == .step3, scheme.fusesQueries,
      let fused = EngineModules.fusedQuery(module)
    else {
      return (module, 1)
    }
    return (fused.module, 3)
  }

  private func place(of tensor: PlacedTensor) -> Int {
    if tensor.treatment.isKept { return tensor.source.firstRow }
    return EngineModules.module(of: tensor.source.safetensorsName).flatMap(EngineModules.fusedQuery)?.place
      ?? 0
  }
}

// MARK: - Scales

extension OutputTensors {
  /// Numbers the groups in the order of the source, and lists whole weights as their members.
  private mutating func groupScales(_ tensors: [PlacedTensor]) {
    var seen: Set<String> = []
    for tensor in tensors {
      guard tensor.scheme?.scheme.geometry.hasMatrixScale == true, !tensor.treatment.isKept,
        let module = EngineModules.module(of: tensor.source.safetensorsName), seen.insert(module).inserted
      else { continue }
      let key = EngineModules.scaleGroup(module)
      let whole = PlacedTensor(tensor.source, part: 0).slice
      if let number = groupNumbers[key] {
        scaleGroups[number].members.append(whole)
      } else {
        groupNumbers[key] = scaleGroups.count
        scaleGroups.append(ShardPlan.ScaleGroup(members: [whole]))
      }
    }
  }

  private func group(of tensor: PlacedTensor, _ scheme: StoredScheme) -> Int? {
    guard scheme.scheme.geometry.hasMatrixScale else { return nil }
    return EngineModules.module(of: tensor.source.safetensorsName).flatMap {
      groupNumbers[EngineModules.scaleGroup($0)]
    }
  }

  /// Records which scales of the source become scales of the output.
  private mutating func note(_ tensor: PlacedTensor) {
    guard !tensor.treatment.operation.decodes else { return }
    let stored = tensor.source.stored
    let names = [stored.scales, stored.matrixScales].compactMap { $0?.name }
    if !names.isEmpty { carried[stored.codes.name] = names }
  }

  /// The source tensors that are not output tensors of their own.
  var absorbed: [ShardPlan.Absorption] {
    let kept = Set(carried.values.joined())
    var schemes: [String: String] = [:]
    for tensor in model.tensors {
      let what = tensor.scheme.map { "\($0.scheme)" } ?? "\(tensor.elementType)"
      for scales in [tensor.stored.scales, tensor.stored.matrixScales] {
        if let scales { schemes[scales.name] = what }
      }
    }
    return model.companions.filter { !kept.contains($0.name) }.map { companion in
      ShardPlan.Absorption(
        tensor: companion.name,
        reason: schemes[companion.name].map { "\($0) scales are multiplied into the weights" }
          ?? "it only describes how codes are packed")
    }.sorted { $0.tensor < $1.tensor }
  }

  /// Scales that stay tensors are replicated with their weights.
  func withScales(_ replicated: [ShardPlan.Replication]) -> [ShardPlan.Replication] {
    replicated.flatMap { weight in
      [weight]
        + (carried[weight.tensor] ?? []).map {
          ShardPlan.Replication(tensor: $0, parts: weight.parts, reason: "it is stored with its weight")
        }
    }
  }
}
