internal import Checkpoint
internal import Step3Model
internal import TensorFormats

extension EngineCheck {
  /// Parameters that no engine quantises: embedding, norms, routers and the vision side.
  mutating func checkUnquantized() throws(CheckpointError) {
    var plain = configuration
    plain.quantization = nil
    if isMultimodal {
      // Without a vision_config engines use its defaults, which are the published dimensions.
      plain.vision = configuration.vision ?? Step3Configuration.published(configuration.family).vision
    } else {
      plain.vision = nil
    }
    let linear = Set(
      modules.lazy.filter { $0.kind != .vision }.flatMap { $0.members.map { "\($0.stem).weight" } })
    for expected in try Step3Inventory(plain).tensors
    where isNeverQuantized(expected.name) && !linear.contains(expected.publishedName) {
      let name = expected.publishedName
      let component = EngineComponent("weight", plainTypes(of: expected), shapes: [expected.shape.dimensions])
      guard let tensor = tensors[name] else {
        let (severity, consequence) = unfilled
        findings.add(
          severity, .missingTensor, tensor: name,
          "expected \(expected.elementType) \(expected.shape), found nothing",
          consequence: consequence, remedy: "write the tensor under this name")
        continue
      }
      taken.insert(name)
      check(tensor, component, ComparedParameter())
    }
  }

  private func isNeverQuantized(_ name: Step3TensorName) -> Bool {
    !configuration.family.model.row(of: name).isLinear && name.module != .lmHead
      && !configuration.predicts(name)
  }

  /// The types that a parameter accepts unchanged. Later members' routers and some norms are F32 in engines, and may be
  /// stored as either.
  private func plainTypes(of expected: Step3Inventory.Tensor) -> [ElementType] {
    let isEither =
      configuration.family != .step3 && (expected.role == .router || expected.elementType == .f32)
    return [expected.elementType] + (isEither ? [.bf16, .f32].filter { $0 != expected.elementType } : [])
  }

  /// What happens to a parameter that no tensor fills.
  var unfilled: (severity: EngineFinding.Severity, consequence: String) {
    model.rules.countsParameters
      ? (.error, "\(engine.name) stops: AssertionError, some parameters are not loaded")
      : engine.unfilled(isQuantized: isQuantized)
  }

  /// Whether the output projection is told of quantisation: never for Step-3; later members' are checked like other
  /// modules if a method quantises them.
  func isHeadTold(_ quantization: EngineQuantization) -> Bool {
    engine == .sglang && !["fp8", "mxfp8", "mxfp4"].contains(quantization.method)
      && !(model.rules.quantizesHead && quantization.method.hasPrefix("modelopt"))
  }

  mutating func checkLMHead() {
    guard let quantization, isHeadTold(quantization), let module = modules.last,
      quantization.ignored.contains(module) == .no
    else { return }
    findings.add(
      .warning, .lmHeadNotListed, tensor: "lm_head",
      "lm_head is not in the list of unquantised modules",
      consequence: "SGLang passes the quantisation to lm_head, and other methods and releases use it",
      remedy: "add lm_head to the list")
  }
}
