internal import JSON
internal import Step3Model

/// One engine's model class for one member of the family: a row in the table of differences between loaders.
///
/// Every rule about names, lists and schemes that is specific to a class is looked up here.
struct EngineModel {
  let engine: Engine
  let family: ModelFamily
  /// Whether the engine makes a vision-language model of the checkpoint.
  let isMultimodal: Bool
  let rules: Rules

  /// - Returns: `nil` if the engine has no class for the member.
  init?(_ engine: Engine, _ family: ModelFamily, _ root: JSONValue) {
    guard let rules = Rules.of(engine, family) else { return nil }
    self.engine = engine
    self.family = family
    self.rules = rules
    if let stated = root["architectures"]?.strings?.first {
      // A name that the engine does not have is a fault of its own; the rest is checked as far as it goes.
      let known = rules.architectures.first { $0.name == stated }
      isMultimodal =
        known?.isMultimodal ?? (rules.architectures[0].isMultimodal && stated != "Step3TextForCausalLM")
    } else {
      isMultimodal = family == .step3 ? root["model_type"]?.text != "step3_text" : root["text_config"] != nil
    }
  }

  /// What messages call the engine's class.
  var title: String { "\(engine.name)'s \(family.name)" }

  /// What a loader does with a name that matches none of its parameters.
  enum Unknown { case stops, drops }

  /// Which tensors of a stack of experts find a parameter.
  enum ExpertSuffixes {
    /// Those whose suffix begins with `weight`.
    case weights
    /// Also `input_scale`.
    case weightsAndInputScale
    case any
  }

  /// The row.
  struct Rules {
    /// The classes' names in `architectures`, and whether they also handle pictures; the first is the usual one.
    let architectures: [(name: String, isMultimodal: Bool)]
    /// What `text_config.architectures` may name, from which a vision-language model creates its language model; empty
    /// if that is ignored.
    var languageArchitectures: [String] = []
    /// The prefix of the language model's modules inside a vision-language model.
    var languagePrefix = ""
    /// The parent of the shared expert.
    var sharedParent = "share_expert"
    /// The name of the module of all routed experts within its layer.
    let experts: String
    /// Whether the class declares the weights of a fused module, so that a list may name these.
    var knowsMembers = false
    /// Prefixes of tensor names, and what the loader maps each to.
    var prefixes: [(disk: String, published: String)] = []
    /// Whether the other engine supports these prefixes too.
    var prefixesAreCommon = false
    var unknown = Unknown.stops
    var expertSuffixes = ExpertSuffixes.any
    /// Whether experts may be stored separately, `moe.experts.7.gate_proj.weight`.
    var takesSingleExperts = false
    /// Whether a stack with the wrong number of experts stops the loader.
    var countsExperts = false
    /// Whether a single value is broadcast to all experts.
    var broadcastsScalars = false
    /// Whether q, k and v are copied to rows of the fused parameter, as fractions of all its rows.
    var queriesByRows = false
    /// Whether q, k and v as one plain tensor match a parameter.
    var takesFusedPlainQueries = true
    /// Whether head gates are quantised.
    var quantizesGates = false
    /// Whether the quantisation is passed to the output projection.
    var quantizesHead = false
    /// Whether it is passed to the vision side.
    var quantizesVision = false
    /// The prefix of the vision tower's modules.
    var visionTower = "vision_model.transformer"
    /// The name of its attention's output projection.
    var visionOutput = "attn.out_proj"
    /// Whether the loader fails with an error that names unfilled parameters.
    var countsParameters = false
    /// Whether layers that predict further tokens are skipped.
    var skipsPrediction = false
  }
}

// MARK: - Names

extension EngineModel {
  /// The name under which the loader looks for a tensor's parameter, in published form.
  func parameterName(_ name: String) -> String {
    guard isMultimodal else { return name }
    for (disk, published) in rules.prefixes where name.hasPrefix(disk) {
      return published + name.dropFirst(disk.count)
    }
    return name
  }

  /// The engine's name for a module of the language model, given the published one.
  func name(ofLanguage stem: String) -> String {
    (isMultimodal ? rules.languagePrefix : "")
      + stem.replacing(".share_expert.", with: ".\(rules.sharedParent).")
  }

  /// The engine's name for a module, by which it looks for a scheme.
  func name(of module: EngineModule) -> String {
    switch module.kind {
    case .vision: module.stem
    case .experts: name(ofLanguage: "\(module.stem.dropLast(3))\(rules.experts)")
    default: name(ofLanguage: module.stem)
    }
  }

  /// The names of a fused module's weights, as if each were a module.
  func memberNames(of module: EngineModule) -> [String] { module.members.map { name(ofLanguage: $0.stem) } }

  /// An entry of a list of modules, renamed as vLLM does from published names to its own.
  ///
  /// Source: vLLM 0.33, `hf_to_vllm_mapper` of the classes, that of the language model after that of the whole.
  func renamed(_ entry: String) -> String {
    guard engine == .vllm else { return entry }
    var entry = entry
    if isMultimodal {
      switch family {
      case .step3, .step3VL10B:
        if entry.hasPrefix("model.") || entry.hasPrefix("lm_head.") { entry = rules.languagePrefix + entry }
      case .step3p5, .step3p7, .step5:
        let beginnings = [
          ("model.vision_model.", "vision_model."), ("model.vit_large_projector", "vit_large_projector"),
          ("model.language_model.", "language_model.model."),
          ("model.language_model", "language_model.model"),
          ("model.", "language_model.model."), ("lm_head", "language_model.lm_head"),
        ]
        if let (old, new) = beginnings.first(where: { entry.hasPrefix($0.0) }) {
          entry = new + entry.dropFirst(old.count)
        }
      }
      for (old, new) in [(".mlp.c_fc", ".mlp.fc1"), (".mlp.c_proj", ".mlp.fc2")] where family != .step3 {
        entry = entry.replacing(old, with: new, maxReplacements: 1)
      }
    }
    guard rules.sharedParent != "share_expert", !entry.contains(".\(rules.sharedParent).") else {
      return entry
    }
    return entry.replacing(".share_expert.", with: ".\(rules.sharedParent).", maxReplacements: 1)
  }
}
