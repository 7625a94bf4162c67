internal import Checkpoint
internal import ModelWeights
internal import Patterns
internal import QuantizationRecipes
internal import ServingEngines
internal import Step3Model
internal import TensorFormats

/// The source of a plan: a partition set put together, without what is left out, with its model if that is needed.
struct PlannedSource {
  let model: SourceModel
  let exclusions: Exclusions
  /// The tensors that were left out.
  let excluded: [ShardPlan.Exclusion]
  /// What the source has and no output of it gets.
  private(set) var omissions: [ShardPlan.Omission] = []
  /// What is odd about a source that is only copied.
  private(set) var warnings: [String] = []

  /// - Throws: `.invalidRequest` for a pattern that leaves nothing out, and what putting together and understanding the
  ///   source throw.
  init(
    _ checkpoint: Checkpoint, _ request: ShardPlan.Request, _ recipe: Recipe
  ) throws(CheckpointError) {
    var source = checkpoint
    var sideDirectory = ""
    var isQuantizationStated = true
    if !checkpoint.parts.isEmpty {
      let merged = try MergedPartition(checkpoint)
      (source, sideDirectory) = (merged.checkpoint, merged.textPart)
      isQuantizationStated = merged.isQuantizationStated
    }
    exclusions = try Exclusions(request.exclude)
    (source, excluded) = try exclusions.apply(to: source)
    let isCopy =
      recipe.isCopy && request.format == source.format && request.partition == .none
      && !request.publishedNames && isQuantizationStated
    model =
      isCopy
      ? SourceModel(raw: source, sideDirectory: sideDirectory)
      : try SourceModel(
        source, router: request.router, sideDirectory: sideDirectory,
        isQuantizationStated: isQuantizationStated)
    if isCopy { try warn(of: source, request, sideDirectory) }
  }

  /// A copy needs no understanding, but whoever copies a Step-3 wants to know what is wrong with it.
  private mutating func warn(
    of source: Checkpoint, _ request: ShardPlan.Request, _ sideDirectory: String
  ) throws(CheckpointError) {
    do throws(CheckpointError) {
      guard try Step3Configuration(of: source) != nil else { return }
      let model = try SourceModel(source, router: request.router, sideDirectory: sideDirectory)
      let completeness = try Completeness(model) { [exclusions] name throws(CheckpointError) in
        try exclusions.pattern(for: name) != nil
      }
      if !completeness.issues.isEmpty {
        warnings.append("this Step-3 is not what its configuration describes: \(completeness.summary)")
      }
      let isStacked = model.checkpoint.files.contains {
        $0.derivations.contains { $0.operation == "stacked" }
      }
      if isStacked || !model.checkpoint.namesOnDisk.isEmpty {
        warnings.append(
          "this Step-3 is not stored as it was published, and a copy of it is not either; --published-names "
            + "gives it its published names, experts stacked")
      }
    } catch {
      warnings.append("copied as it is, but not understood: \(error)")
    }
  }
}

/// Which tensors are left out on purpose.
struct Exclusions {
  private let patterns: [Patterns.NamePattern]

  /// - Throws: `.invalidRequest` for what is no regular expression.
  init(_ texts: [String]) throws(CheckpointError) {
    var patterns: [Patterns.NamePattern] = []
    for text in texts { patterns.append(try Patterns.NamePattern(option: text)) }
    self.patterns = patterns
  }

  /// The pattern that a name matches; `nil` if none.
  func pattern(for name: String) throws(CheckpointError) -> String? {
    for pattern in patterns where try pattern.matches(name) { return pattern.text }
    return nil
  }

  /// Leaves tensors out: those whose own name matches, and what belongs to a weight whose name does.
  ///
  /// - Throws: `.invalidRequest` for a pattern that no tensor matches.
  func apply(
    to checkpoint: Checkpoint
  ) throws(CheckpointError) -> (checkpoint: Checkpoint, excluded: [ShardPlan.Exclusion]) {
    guard !patterns.isEmpty else { return (checkpoint, []) }
    var excluded: [ShardPlan.Exclusion] = []
    var weights: [Substring: String] = [:]
    for tensor in checkpoint.tensors {
      guard let pattern = try pattern(for: tensor.name) else { continue }
      excluded.append(ShardPlan.Exclusion(tensor: tensor.name, pattern: pattern))
      if let (module, suffix) = Self.parts(tensor.name), Self.codes.contains(suffix) {
        weights[module] = pattern
      }
    }
    var names = Set(excluded.map(\.tensor))
    for tensor in checkpoint.tensors {
      guard let (module, suffix) = Self.parts(tensor.name), suffix != "bias", let pattern = weights[module],
        names.insert(tensor.name).inserted
      else { continue }
      excluded.append(ShardPlan.Exclusion(tensor: tensor.name, pattern: pattern))
    }
    try checkCompanions(names, of: checkpoint)
    let used = Set(excluded.map(\.pattern))
    if let idle = patterns.first(where: { !used.contains($0.text) }) {
      // A pattern may be the second that matches a name.
      var matches = false
      for tensor in checkpoint.tensors where try idle.matches(tensor.name) { matches = true }
      guard matches else {
        throw CheckpointError(
          .invalidRequest, "--exclude '\(idle.text.printable)' matches no tensor", path: checkpoint.path,
          remedy: "step3-inspect list shows their names")
      }
    }
    return (checkpoint.excluding { names.contains($0.name) }, excluded)
  }

  /// Codes without what makes values of them would be taken for something else.
  private func checkCompanions(_ names: Set<String>, of checkpoint: Checkpoint) throws(CheckpointError) {
    let plain: Set<ElementType> = [.f64, .f32, .f16, .bf16]
    for name in names.sorted() {
      guard let (module, suffix) = Self.parts(name), suffix != "bias", !Self.codes.contains(suffix),
        !ModelWeights.isAboutActivations(name)
      else { continue }
      for code in Self.codes.sorted() {
        guard let codes = checkpoint["\(module).\(code)"], !names.contains(codes.name),
          !plain.contains(codes.elementType)
        else { continue }
        throw CheckpointError(
          .invalidRequest, "--exclude leaves out \(name.printable), without which these codes mean nothing",
          path: checkpoint.path(of: codes), tensor: codes.name,
          remedy: "leave out the weight as well, or neither")
      }
    }
  }

  private static let codes: Set<Substring> = ["weight", "weight_packed", "qweight"]

  private static func parts(_ name: String) -> (module: Substring, suffix: Substring)? {
    guard let dot = name.lastIndex(of: ".") else { return nil }
    return (name[..<dot], name[name.index(after: dot)...])
  }
}

/// Scales of activations for codes that are codes no more.
struct ObsoleteScales {
  /// What was taken out, and why.
  private(set) var absorbed: [ShardPlan.Absorption] = []

  /// Takes such scales out of the tensors of an output.
  init(_ tensors: inout [PlacedTensor]) {
    var isCoded: [Substring: Bool] = [:]
    for tensor in tensors where tensor.source.scheme != nil || tensor.source.decoded != nil {
      guard let module = EngineModules.module(of: tensor.source.safetensorsName) else { continue }
      isCoded[module[...]] = tensor.isCopy
    }
    guard !isCoded.isEmpty else { return }
    var names: Set<String> = []
    tensors.removeAll { tensor in
      let name = tensor.source.safetensorsName
      guard let dot = name.lastIndex(of: "."), isCoded[name[..<dot]] == false,
        Self.suffixes.contains(name[name.index(after: dot)...])
      else { return false }
      if names.insert(tensor.source.stored.codes.name).inserted {
        absorbed.append(
          ShardPlan.Absorption(
            tensor: tensor.source.stored.codes.name,
            reason: "it scales what is multiplied with codes that the output does not have"))
      }
      return true
    }
  }

  /// Takes scales of activations away from a model that is going to be cut: no rank has a place for them.
  ///
  /// - Throws: `.unsupported` if the codes that they belong to stay what they are.
  static func beforeCutting(
    _ tensors: [SourceTensor], _ request: ShardPlan.Request, _ recipe: Recipe
  ) throws(CheckpointError) -> (kept: [SourceTensor], dropped: [ShardPlan.Absorption]) {
    guard request.partition != .none else { return (tensors, []) }
    let (scales, kept) = (tensors.filter(isActivationScale), tensors.filter { !isActivationScale($0) })
    if let first = scales.first, recipe.isCopy {
      throw CheckpointError(
        .unsupported,
        "it scales what is multiplied with codes, and parts of a cut model have no place for that",
        tensor: first.name, remedy: "leave such scales out with --exclude 'input_', or give --quantize BF16")
    }
    return (
      kept,
      scales.map {
        ShardPlan.Absorption(
          tensor: $0.stored.codes.name, reason: "parts of a cut model have no place for scales of activations"
        )
      }
    )
  }

  private static func isActivationScale(_ tensor: SourceTensor) -> Bool {
    let name = tensor.safetensorsName
    guard let dot = name.lastIndex(of: ".") else { return false }
    return suffixes.contains(name[name.index(after: dot)...])
  }

  private static let suffixes: Set<Substring> = [
    "input_scale", "input_global_scale", "input_zero_point", "input_amax", "activation_scale",
    "input_scale_ub",
  ]
}
