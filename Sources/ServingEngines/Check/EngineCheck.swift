internal import Checkpoint
internal import JSON
internal import Step3Model
public import TensorFormats

/// One replay of an engine's loader over a safetensors checkpoint.
struct EngineCheck {
  let model: EngineModel
  /// The engine whose loader is replayed.
  var engine: Engine { model.engine }
  let subject: EngineSubject
  let configuration: Step3Configuration
  /// `config.json` as written.
  let root: JSONValue
  /// Whether the engine loads it as a vision-language model.
  var isMultimodal: Bool { model.isMultimodal }
  /// Every module that the engine creates for it.
  let modules: [EngineModule]
  /// The engine's reading of `quantization_config`; `nil` without one, and for an unknown one.
  var quantization: EngineQuantization?
  /// The quantisation settings that engines find; `nil` if there are none.
  let settings: JSONValue?
  /// Whether there is one.
  var isQuantized: Bool { settings != nil }

  var findings = FindingCollector()
  var skipped: [String] = []
  /// Every tensor under the name by which the engine looks for its parameter. The last of several with the same
  /// name, as loaders go through the files in order.
  var tensors: [String: EngineSubject.Tensor] = [:]
  /// Suffixes that occur after each module's name.
  var suffixes: [String: [String]] = [:]
  /// The separately stored experts, by the name of the module of all experts.
  var singleExperts: [String: Set<Int>] = [:]
  /// The names matched by some parameter, or covered by a finding.
  var taken: Set<String> = []
  /// The scheme of every resolved module.
  var placed: [(module: EngineModule, layout: EngineLayout)] = []
  /// Modules that the engine has no scheme for.
  var refused: [EngineModuleKind: (description: String, count: Int)] = [:]

  init(
    _ subject: EngineSubject, _ model: EngineModel, _ configuration: Step3Configuration, _ root: JSONValue
  ) throws(CheckpointError) {
    self.model = model
    self.subject = subject
    self.configuration = configuration
    self.root = root
    modules = EngineModule.all(of: configuration, in: model)
    var besides: JSONValue?
    if let text = subject.modelOptConfiguration {
      besides = try JSONValue.parse(text, name: "hf_quant_config.json")
    }
    settings = EngineQuantization.settings(in: root, besides: besides)
    for tensor in subject.tensors {
      let name = model.parameterName(tensor.name)
      tensors[name] = tensor
      guard let dot = name.lastIndex(of: ".") else { continue }
      suffixes[String(name[..<dot]), default: []].append(String(name[name.index(after: dot)...]))
      let parts = name.split(separator: ".", omittingEmptySubsequences: false)
      guard parts.count > 6, parts[3] == "moe", parts[4] == "experts", let expert = Int(parts[5]), expert >= 0
      else { continue }
      singleExperts[parts[0...3].joined(separator: "."), default: []].insert(expert)
    }
  }

  /// Runs every check.
  mutating func run() throws(CheckpointError) {
    checkConfiguration()
    checkFiles()
    if let settings {
      switch EngineQuantization.parse(settings, model, &findings) {
      case .quantization(let found): quantization = found
      case .unknown:
        skipped.append("names, types and shapes: the engine's reading of quantization_config is unknown")
        return
      }
    }
    for module in modules { try check(module) }
    try checkOrder()
    try checkUnquantized()
    passOverPrediction()
    checkRemainingNames()
    checkLMHead()
  }

  /// Marks the tensors of a module as handled.
  mutating func take(all module: EngineModule) {
    for stem in [module.stem] + module.members.map(\.stem) {
      for suffix in suffixes[stem] ?? [] { taken.insert("\(stem).\(suffix)") }
    }
  }
}

extension EngineReport {
  /// Replays an engine's loader.
  ///
  /// - Parameter tensorParallel: The number of ranks to check; `nil` reports only the largest.
  /// - Throws: `.unsupported` for a checkpoint of another model, or without a `config.json`; errors in an
  ///   unreadable configuration; and what reading scales throws.
  /// - Complexity: Proportional to the number of tensors; scales per matrix are the only ones read.
  public init(
    _ subject: EngineSubject, engine: Engine, tensorParallel: Int? = nil
  ) throws(CheckpointError) {
    if subject.isGGUF {
      guard let family = ModelFamily(ggufArchitecture: subject.ggufArchitecture, projector: nil) else {
        throw Self.otherModel(subject, subject.ggufArchitecture)
      }
      self = Self.whole(
        engine, tensorParallel, .gguf, file: subject.files.first?.name,
        "the weights are GGUF, and neither engine loads a \(family.name) from it",
        consequence: engine == .vllm
          ? "vLLM leaves GGUF to a plugin"
            + (family == .step3 ? ", which does not know the architecture" : "")
          : "SGLang stops: unknown gguf model_type",
        remedy: "write safetensors: step3-convert ... --to safetensors")
      return
    }
    guard let document = subject.configuration else {
      throw CheckpointError(
        .unsupported, "there is no config.json, which tells engines what the model is",
        path: subject.path,
        remedy: "put the model's config.json beside the weights")
    }
    if let fault = document.fault { throw fault }
    let root = JSONValue.object(document.members ?? [:])
    guard let family = Step3Configuration.family(root) else {
      throw Self.otherModel(subject, root["model_type"]?.text)
    }
    if subject.isPartition {
      self = Self.whole(
        engine, tensorParallel, .partition, file: "config.json",
        "this is a partitioned checkpoint, or a part of one",
        consequence: "\(engine.name) has no loader for parts: the tensors of the others are missing",
        remedy:
          "serve the unpartitioned checkpoint: step3-convert SET OUTPUT --to safetensors merges a set"
      )
      return
    }
    guard let model = EngineModel(engine, family, root) else {
      self = Self.whole(
        engine, tensorParallel, .architecture, file: "config.json",
        "\(engine.name) has no model class for \(family.name)", consequence: "\(engine.name) stops",
        remedy: "serve it with vLLM")
      return
    }
    let dimensions: Step3Configuration
    do throws(CheckpointError) {
      dimensions = try Self.dimensions(of: root)
    } catch {
      throw error.at(path: document.path)
    }
    var check = try EngineCheck(subject, model, dimensions, root)
    try check.run()
    self = check.report(tensorParallel: tensorParallel)
  }

  /// The model's dimensions. Quantisation settings are read only by these rules, and are removed first: problems that
  /// keep others from reading them become findings, not errors.
  private static func dimensions(of root: JSONValue) throws(CheckpointError) -> Step3Configuration {
    guard var members = root.members else { return try Step3Configuration(root) }
    members["quantization_config"] = nil
    if var inner = members["text_config"]?.members {
      inner["quantization_config"] = nil
      members["text_config"] = .object(inner)
    }
    return try Step3Configuration(.object(members))
  }

  private static func otherModel(_ subject: EngineSubject, _ architecture: String?) -> CheckpointError {
    CheckpointError(
      .unsupported,
      "the model is \(architecture.map { "'\($0.printable)'" } ?? "not named"), but the rules are only for the Step family",
      path: subject.path, remedy: "how engines load other models is not known here")
  }

  private static func whole(
    _ engine: Engine, _ tensorParallel: Int?, _ code: EngineFinding.Code, file: String?, _ message: String,
    consequence: String, remedy: String
  ) -> EngineReport {
    var findings = FindingCollector()
    findings.add(.error, code, file: file, message, consequence: consequence, remedy: remedy)
    return EngineReport(
      engine: engine, version: engine.version, ok: false, schemes: [], largestTP: nil,
      limit: nil, requestedTP: tensorParallel, findings: findings.findings, findingsDropped: 0,
      checksSkipped: ["all others"])
  }
}
