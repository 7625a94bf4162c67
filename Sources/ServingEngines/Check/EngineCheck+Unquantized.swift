internal import Checkpoint
internal import Step3Model
internal import TensorFormats

extension EngineCheck {
  /// What no engine quantises: embedding, norms, routers and the vision side.
  mutating func checkUnquantized() throws(CheckpointError) {
    var plain = configuration
    plain.quantization = nil
    if isMultimodal {
      // Without a vision_config engines take its defaults, which are the published dimensions.
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

  /// The types that a parameter takes as they are. Later members' routers and some norms are F32 in engines, and may come
  /// as either.
  private func plainTypes(of expected: Step3Inventory.Tensor) -> [ElementType] {
    let isEither =
      configuration.family != .step3 && (expected.role == .router || expected.elementType == .f32)
    return [expected.elementType] + (isEither ? [.bf16, .f32].filter { $0 != expected.elementType } : [])
  }

  /// What becomes of a parameter that nothing fills.
  var unfilled: (severity: EngineFinding.Severity, consequence: String) {
    model.rules.countsParameters
      ? (.error, "\(engine.name) stops: AssertionError, some parameters are not loaded")
      : engine.unfilled(isQuantized: isQuantized)
  }

  /// The output projection, of which no engine makes a quantised module of Step-3's; later members' are checked like other
  /// modules where a method quantises them.
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
      "lm_head is not among the modules that are not quantised",
      consequence: "SGLang tells lm_head of the quantisation, and other methods and releases make use of it",
      remedy: "add lm_head to the list")
  }
}
