internal import Checkpoint
internal import JSON
internal import Step3Model
public import TensorFormats

/// One replay of an engine's loader over a checkpoint of safetensors.
struct EngineCheck {
  let model: EngineModel
  /// Whose loader is replayed.
  var engine: Engine { model.engine }
  let subject: EngineSubject
  let configuration: Step3Configuration
  /// `config.json` as it is written.
  let root: JSONValue
  /// Whether the engine makes a vision-language model of it.
  var isMultimodal: Bool { model.isMultimodal }
  /// Every module that the engine makes of it.
  let modules: [EngineModule]
  /// What the engine makes of `quantization_config`; `nil` without one, and for one that is not understood.
  var quantization: EngineQuantization?
  /// What engines find of a configuration of the quantisation; `nil` where there is none.
  let settings: JSONValue?
  /// Whether there is one.
  var isQuantized: Bool { settings != nil }

  var findings = FindingCollector()
  var skipped: [String] = []
  /// Every tensor under the name by which the engine looks for its parameter. The last of several of one name, as
  /// loaders go through the files in order.
  var tensors: [String: EngineSubject.Tensor] = [:]
  /// Suffixes that occur behind each module's name.
  var suffixes: [String: [String]] = [:]
  /// The experts that have tensors of their own, by the name of the module of all of them.
  var singleExperts: [String: Set<Int>] = [:]
  /// The names that some parameter took, or that a finding has dealt with.
  var taken: Set<String> = []
  /// The scheme of every module that was resolved.
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
        skipped.append("names, types and shapes: the engine's reading of quantization_config is not known")
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

  /// Marks the tensors of a module as dealt with.
  mutating func take(all module: EngineModule) {
    for stem in [module.stem] + module.members.map(\.stem) {
      for suffix in suffixes[stem] ?? [] { taken.insert("\(stem).\(suffix)") }
    }
  }
}

extension EngineReport {
  /// Replays an engine's loader.
  ///
  /// - Parameter tensorParallel: The number of ranks to check; `nil` reports the largest only.
  /// - Throws: `.unsupported` for a checkpoint of another model, or without a `config.json`; what is wrong with a
  ///   configuration that cannot be read; and what reading scales throws.
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
        .unsupported, "there is no config.json, from which engines learn what the model is",
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
        consequence: "\(engine.name) has no loader for parts: it misses the tensors of the others",
        remedy:
          "serve the unpartitioned checkpoint: step3-convert SET OUTPUT --to safetensors puts a set together again"
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

  /// The model's dimensions. What is said of its quantisation is read by these rules alone, and is taken out first: what
  /// keeps others from reading it is for a finding, and no reason to stop.
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
      "the model is \(architecture.map { "'\($0.printable)'" } ?? "not named"), and the rules are those for the Step family",
      path: subject.path, remedy: "nothing is known here of what engines make of other models")
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
