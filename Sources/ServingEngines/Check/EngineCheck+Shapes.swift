internal import TensorFormats

/// The parameter that a tensor is compared with.
struct ComparedParameter {
  /// The module; `nil` for a parameter that is never quantised.
  var module: EngineModule?
  /// Whether the tensor becomes rows of a fused module's.
  var isMember = false

  var isExpert: Bool { module?.kind == .experts }
}

extension EngineCheck {
  /// Compares a tensor with the parameter it is loaded into. Loaders silently copy, convert and broadcast, so
  /// anything but equality is reported.
  mutating func check(
    _ tensor: EngineSubject.Tensor, _ component: EngineComponent, _ parameter: ComparedParameter
  ) {
    if !component.types.contains(tensor.elementType) { reportType(tensor, component) }
    let found = tensor.shape.dimensions
    guard !component.shapes.contains(found), let expected = component.shapes.first else { return }
    if model.rules.broadcastsScalars, parameter.isExpert, component.isPerMatrix, found == [] || found == [1] {
      return
    }
    let fault = fault(of: found, expected, parameter)
    findings.add(
      fault.severity, fault.code, tensor: tensor.name, file: tensor.file,
      "has shape \(tensor.shape); expected \(expected)", consequence: fault.consequence, remedy: fault.remedy)
  }

  private struct ShapeFault {
    let severity: EngineFinding.Severity
    let code: EngineFinding.Code
    let consequence: String
    var remedy = "write the tensor in the expected shape"
  }

  private func fault(of found: [Int], _ expected: [Int], _ parameter: ComparedParameter) -> ShapeFault {
    let name = engine.name
    let general = ShapeFault(
      severity: .error, code: .wrongShape, consequence: "\(name) stops: the shapes differ",
      remedy: "write the tensor in the expected shape, or correct config.json")
    guard found.count == expected.count else { return general }
    if parameter.isExpert, found[0] != expected[0], found.dropFirst() == expected.dropFirst() {
      return expertCountFault(found[0], expected[0])
    }
    if parameter.isExpert, expected.count == 3, expected[1] != expected[2],
      found == [expected[0], expected[2], expected[1]]
    {
      return ShapeFault(
        severity: .error, code: .transposed, consequence: "\(name) stops: RuntimeError, the sizes differ",
        remedy: "store every expert as [out, in]")
    }
    let differences = zip(found, expected).enumerated().filter { $1.0 != $1.1 }
    // PyTorch's copy_ broadcasts dimensions of length 1. Only here are shapes not compared first.
    let isCopied =
      parameter.isExpert
      || (model.rules.queriesByRows && parameter.isMember && parameter.module?.isQKV == true)
    guard isCopied else { return general }
    if differences.allSatisfy({ $1.0 == 1 && $0 > 0 || $1.0 == 1 && !parameter.isExpert }) {
      return ShapeFault(
        severity: .silent, code: .broadcast,
        consequence: "\(name) repeats the values over the missing dimension")
    }
    if engine == .vllm, parameter.isExpert, differences.count == 1, let only = differences.first,
      only.offset == found.count - 1, only.element.0 < only.element.1
    {
      return ShapeFault(
        severity: .silent, code: .shortRows, consequence: "vLLM leaves the remaining columns uninitialised")
    }
    return general
  }

  private func expertCountFault(_ found: Int, _ expected: Int) -> ShapeFault {
    let remedy = "stack all \(expected) experts, or correct moe_num_experts in config.json"
    if model.rules.countsExperts {
      return ShapeFault(
        severity: .error, code: found < expected ? .tooFewExperts : .tooManyExperts,
        consequence: "vLLM stops: it compares the number of experts", remedy: remedy)
    }
    switch (engine, found < expected) {
    case (.vllm, true):
      return ShapeFault(
        severity: .silent, code: .tooFewExperts,
        consequence: "vLLM leaves the remaining experts uninitialised and considers the tensor loaded",
        remedy: remedy)
    case (.sglang, true):
      return ShapeFault(
        severity: .error, code: .tooFewExperts, consequence: "SGLang stops: IndexError", remedy: remedy)
    case (.vllm, false):
      return ShapeFault(
        severity: .error, code: .tooManyExperts, consequence: "vLLM stops: IndexError", remedy: remedy)
    case (.sglang, false):
      return ShapeFault(
        severity: .silent, code: .tooManyExperts, consequence: "SGLang ignores the extra experts",
        remedy: remedy)
    }
  }

  // MARK: Types

  private mutating func reportType(_ tensor: EngineSubject.Tensor, _ component: EngineComponent) {
    let expected = component.types.map(\.rawValue).joined(separator: " or ")
    let floats: Set<ElementType> = [.bf16, .f16, .f32]
    if tensor.elementType == .f8E8M0, component.types == [.u8] {
      findings.add(
        .silent, .e8m0Scale, tensor: tensor.name, file: tensor.file, "is stored as F8_E8M0; expected U8",
        consequence:
          "\(engine.name) converts the numbers instead of the bits: the exponent byte 119 becomes 0",
        remedy: "store the same bytes as U8")
    } else if floats.contains(tensor.elementType), component.types.allSatisfy({ floats.contains($0) }) {
      let keeps = component.types.contains(.f32)
      findings.add(
        .warning, .convertedType, tensor: tensor.name, file: tensor.file,
        "is stored as \(tensor.elementType); expected \(expected)",
        consequence: "\(engine.name) converts it"
          + (keeps ? ", which changes no value" : ", rounding if necessary"),
        remedy: "store it as \(component.types[0])")
    } else {
      findings.add(
        .silent, .wrongType, tensor: tensor.name, file: tensor.file,
        "is stored as \(tensor.elementType); expected \(expected)",
        consequence: "\(engine.name) silently converts numbers as if both types meant the same",
        remedy: "store it as \(component.types[0]), or correct quantization_config")
    }
  }

  // MARK: Blocks

  /// Misaligned modules even without tensor parallelism.
  mutating func checkAlignment() {
    let limits = TensorParallelLimits(self)
    for (module, layout) in placed {
      if let obstacle = limits.obstacle(1, module, layout) {
        findings.add(
          .error, .blockMisaligned, tensor: module.stem, "\(obstacle), as \(layout) needs",
          consequence: "\(engine.name) stops: ValueError when it creates the module",
          remedy: "leave the module unquantised, or use a scheme without blocks")
      }
      guard model.rules.queriesByRows, module.isQKV, suffixes[module.stem] == nil, let tile = layout.tile
      else {
        continue
      }
      checkFusedTiles(module, tile.rows)
    }
  }

  /// vLLM's Step-3 copies the scales of q, k and v to rows of the fused scales, found as fractions of their number:
  /// correct only if each begins on a block.
  private mutating func checkFusedTiles(_ module: EngineModule, _ side: Int) {
    let rows = module.members.map(\.extent.rows)
    guard rows.contains(where: { $0 % side != 0 }) else { return }
    let total = rows.reduce(0, +)
    let tiles = (total - 1) / side + 1
    var start = 0
    var isSilent = true
    for count in rows {
      let first = Int(Double(start) / Double(total) * Double(tiles))
      start += count
      let last = Int(Double(start) / Double(total) * Double(tiles))
      let own = (count - 1) / side + 1
      if own != last - first, own != 1 { isSilent = false }
    }
    findings.add(
      isSilent ? .silent : .error, .blockMisaligned, tensor: module.stem,
      "q, k and v have \(rows.map(String.init).joined(separator: ", ")) rows, which are not whole blocks of \(side)",
      consequence: isSilent
        ? "vLLM puts their scales on the wrong rows of the fused module, or loses some"
        : "vLLM stops: RuntimeError, the sizes of the scales differ",
      remedy: "leave attention unquantised, or use a scheme without blocks")
  }
}
