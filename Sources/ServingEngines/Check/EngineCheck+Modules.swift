internal import Step3Model
internal import TensorFormats

extension EngineCheck {
  /// Checks the weight of one module: whether the engine supports its scheme, and each of its tensors.
  mutating func check(_ module: EngineModule) throws(CheckpointError) {
    let layout: EngineLayout
    switch quantization?.resolve(module) ?? .layout(.plain) {
    case .layout(let found): layout = found
    case .refused(let refusal):
      take(all: module)
      refused[module.kind, default: (refusal.message, 0)].count += 1
      findings.add(
        .error, refusal.code, tensor: module.stem, refusal.message, consequence: refusal.consequence,
        remedy: refusal.remedy)
      return
    }
    if module.isBesideIndexer || module.kind == .vision, layout != .plain {
      take(all: module)
      return reportAlwaysPlain(module, layout)
    }
    placed.append((module, layout))
    if module.kind == .vision { return }
    guard agreesOnQuantization(module, layout) else { return take(all: module) }
    let takesFused =
      !module.isBesideIndexer && (model.rules.takesFusedPlainQueries || layout != .plain || !module.isQKV)
    let fused = Set(module.isFused && takesFused ? suffixes[module.stem] ?? [] : [])
    if !fused.isEmpty {
      try checkFused(module, layout, fused)
    } else if module.kind == .experts, model.rules.takesSingleExperts, hasSingleExperts(module) {
      try checkSingleExperts(module, layout)
      return
    } else {
      for member in module.members {
        check(member.stem, member.extent, layout, module, isMember: module.isFused)
      }
    }
    try checkMatrixScales(module, layout, isFused: !fused.isEmpty)
  }

  /// What the engine never quantises: a product shared with an indexer, and the vision side.
  private mutating func reportAlwaysPlain(_ module: EngineModule, _ layout: EngineLayout) {
    let name = Self.withLayer(model.name(of: module), module.layer)
    let names = module.isBesideIndexer ? module.members.map(\.stem) : [module.stem]
    findings.add(
      module.kind == .vision ? .silent : .error, .moduleNotIgnored, tensor: module.stem,
      "the configuration makes \(layout) of \(engine.name)'s module \(name), which is stored plain",
      consequence: module.kind == .vision
        ? "\(engine.name) converts the values, or stops if it cannot"
        : "vLLM stops: ValueError, the product of queries, keys, values and the indexer cannot be quantised",
      remedy: "list all names that engines use for it: "
        + Self.withLayer(names.joined(separator: ", "), module.layer))
  }

  // MARK: Separately stored experts

  private func hasSingleExperts(_ module: EngineModule) -> Bool {
    singleExperts[module.stem] != nil && module.members.allSatisfy { suffixes[$0.stem] == nil }
  }

  private mutating func checkSingleExperts(
    _ module: EngineModule, _ layout: EngineLayout
  ) throws(CheckpointError) {
    let present = singleExperts[module.stem] ?? []
    let count = configuration.text.expertCount
    // Only existing ones are visited: a configuration may claim any number.
    var experts = present.filter { $0 < count }.sorted()
    if experts.count < count, let absent = (0...experts.count).first(where: { !present.contains($0) }) {
      experts.append(absent)
    }
    for expert in experts {
      let members = module.members.map { member in
        EngineModule.Member(
          stem: "\(module.stem).experts.\(expert).\(member.stem.dropFirst(module.stem.count + 1))",
          extent: MatrixExtent(rows: member.extent.rows, columns: member.extent.columns))
      }
      for member in members { check(member.stem, member.extent, layout, module, isMember: false) }
      try checkMatrixScales(
        EngineModule(
          kind: .experts, layer: module.layer, stem: module.stem, members: members,
          className: module.className),
        layout, isFused: false)
    }
  }

  // MARK: Quantised or not

  /// Compares the configuration of a module with its tensors: either may have been forgotten.
  private mutating func agreesOnQuantization(_ module: EngineModule, _ layout: EngineLayout) -> Bool {
    var stems = [module.stem] + module.members.map(\.stem)
    if let expert = singleExperts[module.stem]?.min(), model.rules.takesSingleExperts {
      stems += ["gate_proj", "up_proj", "down_proj"].map { "\(module.stem).experts.\(expert).\($0)" }
    }
    let isPlain =
      stems.contains { isFloat("\($0).weight") }
      && stems.allSatisfy { stem in
        let found = suffixes[stem] ?? []
        return found.allSatisfy { $0 == "weight" || $0 == "bias" }
          && (found.isEmpty || isFloat("\(stem).weight"))
      }
    if layout != .plain, isPlain {
      reportNotIgnored(module, layout)
      return false
    }
    if layout == .plain, module.kind != .lmHead || model.rules.quantizesHead,
      let scale = stems.compactMap({ stem in scaleSuffix(of: stem).map { "\(stem).\($0)" } }).first
    {
      let names = [module.stem] + module.members.map(\.stem)
      findings.add(
        .error, .moduleIgnored, tensor: scale, file: tensors[scale]?.file,
        "the files hold scales for the module, but \(isQuantized ? "the configuration leaves it unquantised" : "there is no quantization_config")",
        consequence: "\(engine.name) stops: KeyError, the module has no such parameter",
        remedy: isQuantized
          ? "take \(model.name(of: module)) off the list of modules that are not quantised, patterns included"
          : "write quantization_config for \(names[0])")
      return false
    }
    return true
  }

  private mutating func reportNotIgnored(_ module: EngineModule, _ layout: EngineLayout) {
    let isConverted =
      switch layout {
      case .fp8Block, .fp8Tensor, .floatChannel, .floatTensor, .floatBlock, .int8Channel, .mxfp8: true
      default: false
      }
    let names = EngineQuantization.namesToList(module, method: quantization?.method).joined(separator: ", ")
    let name = Self.withLayer(model.name(of: module), module.layer)
    findings.add(
      isConverted ? .silent : .error, .moduleNotIgnored, tensor: module.stem,
      file: tensors["\(module.members[0].stem).weight"]?.file,
      "the files hold plain values, but the configuration makes \(layout) of \(engine.name)'s module \(name)",
      consequence: isConverted
        ? "\(engine.name) converts the values to eight bits and multiplies with uninitialised scales"
        : "\(engine.name) stops: KeyError, or the shapes differ",
      remedy: "list all names that engines use for it: \(Self.withLayer(names, module.layer))")
  }

  /// Names with a placeholder for the layer, so that one finding covers all layers.
  static func withLayer(_ names: String, _ layer: Int) -> String {
    // In a pattern there is a backslash between the number and the dot.
    names.split(separator: ".", omittingEmptySubsequences: false).map { part in
      part == "\(layer)" ? "N" : part == "\(layer)\\" ? "N\\" : String(part)
    }.joined(separator: ".")
  }

  private func isFloat(_ name: String) -> Bool {
    tensors[name].map { [.bf16, .f16, .f32].contains($0.elementType) } ?? false
  }

  /// The suffix of a tensor that only codes have.
  private func scaleSuffix(of stem: String) -> String? {
    suffixes[stem]?.first { suffix in
      ["weight_packed", "qweight"].contains(suffix) || suffix.hasPrefix("weight_scale")
        || suffix.hasPrefix("weight_global")
    }
  }

  // MARK: Components

  /// A module that is stored as one matrix under its fused name, which both engines accept.
  private mutating func checkFused(
    _ module: EngineModule, _ layout: EngineLayout, _ fused: Set<String>
  ) throws(CheckpointError) {
    check(module.stem, module.fusedExtent, layout, module, isMember: false)
    for member in module.members {
      for suffix in suffixes[member.stem] ?? [] where fused.contains(suffix) {
        let name = "\(member.stem).\(suffix)"
        taken.insert(name)
        findings.add(
          .silent, .fusedTwice, tensor: name, file: tensors[name]?.file,
          "the fused module \(Self.withLayer(module.stem, module.layer)) also exists",
          consequence: "\(engine.name) loads both, and the one that it reads last wins",
          remedy: "keep one of them")
      }
    }
  }

  private mutating func check(
    _ stem: String, _ extent: MatrixExtent, _ layout: EngineLayout, _ module: EngineModule, isMember: Bool
  ) {
    let components: [EngineComponent]
    switch layout.components(of: extent) {
    case .success(let found): components = found
    case .failure(let misfit):
      for suffix in suffixes[stem] ?? [] { taken.insert("\(stem).\(suffix)") }
      findings.add(
        .error, .blockMisaligned, tensor: stem, "\(misfit.message), as \(layout) needs",
        consequence: "\(engine.name) stops when it creates the module", remedy: "leave the module unquantised"
      )
      return
    }
    for component in components {
      let name = "\(stem).\(component.suffix)"
      guard let tensor = tensors[name] else {
        reportMissing(name, component, module)
        continue
      }
      taken.insert(name)
      if model.rules.queriesByRows, module.isQKV, isMember, component.isPerMatrix {
        findings.add(
          .error, .attentionScalar, tensor: tensor.name, file: tensor.file,
          "\(model.title) fills the fused qkv_proj by rows, but a \(component.suffix) has none",
          consequence: "vLLM stops: AttributeError, no attribute output_dim",
          remedy: component.presence == .optional
            ? "leave the tensor out"
            : "write self_attn.qkv_proj as one fused module, or leave attention unquantised")
        continue
      }
      check(tensor, component, ComparedParameter(module: module, isMember: isMember))
    }
  }

  private mutating func reportMissing(_ name: String, _ component: EngineComponent, _ module: EngineModule) {
    switch component.presence {
    case .optional: return
    case .activationScale:
      findings.add(
        .silent, .missingInputScale, tensor: name,
        "activations are quantised statically, and this scale is missing",
        consequence: component.suffix == "input_scale"
          ? "\(engine.name) runs with a scale of 1" : "\(engine.name) runs with an uninitialised scale",
        remedy: "write the scale, or quantise activations dynamically")
    case .required:
      let (severity, consequence) = unfilled
      findings.add(
        severity, component.isScale ? .missingScale : .missingTensor, tensor: name,
        "expected \(component.types[0]) \(component.shapes[0]), found nothing", consequence: consequence,
        remedy: "write the tensor under this name")
    }
  }

  // MARK: Scales per matrix

  /// Scales per matrix of weights that share one in the engine: gate and up of every expert, and fused modules.
  private mutating func checkMatrixScales(
    _ module: EngineModule, _ layout: EngineLayout, isFused: Bool
  ) throws(CheckpointError) {
    let suffix: String
    switch layout {
    case .nvfp4: suffix = "weight_global_scale"
    case .modelOptNVFP4: suffix = "weight_scale_2"
    default: return
    }
    guard !isFused, module.members.count > 1 else { return }
    let members = module.kind == .experts ? Array(module.members.prefix(2)) : module.members
    let scales = members.compactMap { tensors["\($0.stem).\(suffix)"] }
    // Missing and misshapen ones have been reported; those with the right shape are small.
    guard scales.count == members.count,
      scales.allSatisfy({ $0.elementType == .f32 && $0.shape.elementCount == members[0].extent.experts ?? 1 })
    else { return }
    guard let read = subject.read else {
      let note = "whether gate and up have the same \(suffix): the tensors have not been written yet"
      if !skipped.contains(note) { skipped.append(note) }
      return
    }
    let first = try read(scales[0])
    for scale in scales.dropFirst() where try read(scale) != first {
      let stops = engine == .sglang && module.kind == .experts && suffix == "weight_global_scale"
      findings.add(
        stops ? .error : .silent, .unequalGlobalScales, tensor: scale.name, file: scale.file,
        "its scales differ from those of \(Self.withLayer(members[0].stem, module.layer)), but the engine keeps only one for both",
        consequence: stops
          ? "SGLang stops: ValueError"
          : "\(engine.name) computes with the scales of one of them, after a warning",
        remedy: "quantise the weights again with the scale of the larger maximum")
      return
    }
  }
}
