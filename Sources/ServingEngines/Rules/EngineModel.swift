internal import JSON
internal import Step3Model

/// One engine's model class for one member of the family: a row of the table of what differs between their loaders.
///
/// Every rule about names, lists and schemes that is not the engine's for all models is asked of this value.
struct EngineModel {
  let engine: Engine
  let family: ModelFamily
  /// Whether the engine makes a vision-language model of the checkpoint.
  let isMultimodal: Bool
  let rules: Rules

  /// - Returns: `nil` for a member that the engine has no class for.
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

  /// What a loader does with a name that is none of its parameters'.
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
    /// The classes' names in `architectures`, and whether they are for pictures too; the first is the usual one.
    let architectures: [(name: String, isMultimodal: Bool)]
    /// What `text_config.architectures` may name, from which a vision-language model makes its language model; empty where
    /// that is not looked at.
    var languageArchitectures: [String] = []
    /// What stands before the names of the language model's modules inside a vision-language one.
    var languagePrefix = ""
    /// What the shared expert is inside of.
    var sharedParent = "share_expert"
    /// What the module of all routed experts is called within its layer.
    let experts: String
    /// Whether the class says which weights a fused module is made of, so that a list may name these.
    var knowsMembers = false
    /// Beginnings of tensors' names, and what the loader makes of each.
    var prefixes: [(disk: String, published: String)] = []
    /// Whether names that begin so are understood by the other engine too.
    var prefixesAreCommon = false
    var unknown = Unknown.stops
    var expertSuffixes = ExpertSuffixes.any
    /// Whether experts may have tensors of their own, `moe.experts.7.gate_proj.weight`.
    var takesSingleExperts = false
    /// Whether a stack of another number of experts ends the loading.
    var countsExperts = false
    /// Whether one value stands for all experts.
    var broadcastsScalars = false
    /// Whether q, k and v are copied to rows of the fused parameter, in fractions of all its rows.
    var queriesByRows = false
    /// Whether q, k and v as one plain tensor find a parameter.
    var takesFusedPlainQueries = true
    /// Whether the gate of heads is a layer that is quantised.
    var quantizesGates = false
    /// Whether the output projection is told of the quantisation.
    var quantizesHead = false
    /// Whether the vision side is.
    var quantizesVision = false
    /// What the modules of the vision tower are called.
    var visionTower = "vision_model.transformer"
    /// What the output projection of its attention is called.
    var visionOutput = "attn.out_proj"
    /// Whether the loader ends with an error that names what was not filled.
    var countsParameters = false
    /// Whether layers that predict further tokens are passed over.
    var skipsPrediction = false
  }
}

// MARK: - Names

extension EngineModel {
  /// The name under which the loader looks for a tensor's parameter, as published names have it.
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

  /// The names of a fused module's weights, as if each was a module.
  func memberNames(of module: EngineModule) -> [String] { module.members.map { name(ofLanguage: $0.stem) } }

  /// An entry of a list of modules, as vLLM renames it on the way from published names to its own.
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
