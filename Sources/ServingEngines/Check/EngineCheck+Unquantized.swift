internal import Step3Model
internal import TensorFormats

extension EngineCheck {
  /// What no engine quantises: embedding, norms, routers and the vision side.
  mutating func checkUnquantized() throws(CheckpointError) {
    var plain = configuration
    plain.quantization = nil
    if isMultimodal {
      // Without a vision_config engines take its defaults, which are the published dimensions.
      plain.vision = configuration.vision ?? Step3Configuration.Vision()
    } else {
      plain.vision = nil
    }
    for expected in try Step3Inventory(plain).tensors where isNeverQuantized(expected.name) {
      let name = expected.publishedName
      let component = EngineComponent("weight", .bf16, shapes: [expected.shape.dimensions])
      guard let tensor = tensors[name] else {
        let (severity, consequence) = engine.unfilled(isQuantized: isQuantized)
        findings.add(
          severity, .missingTensor, tensor: name, "expected BF16 \(expected.shape), found nothing",
          consequence: consequence, remedy: "write the tensor under this name")
        continue
      }
      taken.insert(name)
      check(tensor, component, ComparedParameter())
    }
  }

  private func isNeverQuantized(_ name: Step3TensorName) -> Bool {
    !configuration.family.model.row(of: name).isLinear && name.module != .lmHead
  }

  /// The output projection: no engine makes a quantised module of Step-3's.
  mutating func checkLMHead() {
    guard engine == .sglang, let quantization, !["fp8", "mxfp8", "mxfp4"].contains(quantization.method),
      let module = EngineModule.all(of: configuration.text).last,
      quantization.ignored.contains(module) == .no
    else { return }
    findings.add(
      .warning, .lmHeadNotListed, tensor: "lm_head",
      "lm_head is not among the modules that are not quantised",
      consequence: "SGLang tells lm_head of the quantisation, and other methods and releases make use of it",
      remedy: "add lm_head to the list")
  }
}
