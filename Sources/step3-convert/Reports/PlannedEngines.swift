public import ArgumentParser
import Checkpoint
import CommandSupport
public import ServingEngines
import ShardPlanning
import Step3Model
import TensorFormats

extension Engine: ExpressibleByArgument {}

/// Whether vLLM and SGLang would load an output, by their loaders' rules on the plan alone, before a byte is written.
struct PlannedEngines: Encodable {
  /// One engine's answer.
  struct Verdict: Encodable {
    let engine: String
    let version: String
    /// Whether it would load the output correctly.
    let ok: Bool
    /// The largest tensor-parallel degree; `nil` if none works.
    let largestTP: Int?
    /// The worst problem that it would run into, and how to fix it.
    let problem: String?
    let remedy: String?
    /// Whether it would accept the output and compute wrong results.
    let loadsWrongly: Bool
  }

  let verdicts: [Verdict]

  func encode(to encoder: any Encoder) throws { try verdicts.encode(to: encoder) }

  /// - Returns: `nil` for outputs that no engine is meant to load: GGUF, parts, models outside the family.
  init?(_ plan: ShardPlan) {
    // Other models have names that begin the same way, and rules of their own.
    guard plan.request.format == .safetensors, plan.request.partition == .none, let part = plan.parts.first,
      plan.parts.count == 1, let configuration = Self.configuration(of: part),
      Step3Configuration.family(configJSON: configuration) != nil
    else { return nil }
    var tensors: [EngineSubject.Tensor] = []
    var weightMap: [String: String] = [:]
    for file in part.files {
      for tensor in file.tensors {
        weightMap[tensor.name] = file.path
        tensors.append(
          EngineSubject.Tensor(
            name: tensor.name, elementType: tensor.elementType, shape: tensor.shape, file: file.path))
      }
    }
    let total = part.files.reduce(0) { $0 + $1.bytes - $1.dataOffset }
    let subject = EngineSubject(
      path: "the planned output", tensors: tensors,
      files: part.files.map { EngineSubject.File(name: $0.path, headerByteCount: $0.dataOffset) },
      configuration: configuration,
      index: part.files.count > 1 ? EngineSubject.Index(weightMap: weightMap, totalSize: total) : nil)
    verdicts = Engine.allCases.map { Self.verdict(of: $0, on: subject) }
  }

  /// A configuration that cannot be read is reported as the engine's verdict too: a plain copy of it can still go on.
  private static func verdict(of engine: Engine, on subject: EngineSubject) -> Verdict {
    do {
      let report = try EngineReport(subject, engine: engine)
      let worst = report.findings.first { $0.severity.isFatal }
      return Verdict(
        engine: engine.name, version: report.version, ok: report.ok, largestTP: report.largestTP,
        problem: worst.map { finding in (finding.tensor.map { "\($0): " } ?? "") + finding.message },
        remedy: worst?.remedy, loadsWrongly: worst?.severity == .silent)
    } catch {
      return Verdict(
        engine: engine.name, version: engine.version, ok: false, largestTP: nil, problem: error.message,
        remedy: error.remedy, loadsWrongly: false)
    }
  }

  private static func configuration(of part: ShardPlan.Part) -> [UInt8]? {
    part.documents.first { $0.path == "config.json" || $0.path.hasSuffix("/config.json") }.map {
      Array($0.text.utf8)
    }
  }

  /// One line for each engine.
  var text: String {
    verdicts.map { verdict in
      let name = "\(verdict.engine) \(verdict.version)"
      guard !verdict.ok else {
        return "\(name) would load it"
          + (verdict.largestTP.map { ", on up to \($0) tensor-parallel ranks" } ?? "")
      }
      return "\(name) would \(verdict.loadsWrongly ? "load it WRONGLY" : "not load it"): "
        + (verdict.problem ?? "").printable
    }.joined(separator: "\n")
  }

  /// Warnings worth printing before hours of work: that an engine would load it wrongly, or that neither would load it.
  var warnings: [String] {
    guard verdicts.contains(where: \.loadsWrongly) || !verdicts.contains(where: \.ok) else { return [] }
    return verdicts.filter { !$0.ok }.map { verdict in
      "\(verdict.engine) would \(verdict.loadsWrongly ? "load this output wrongly" : "not load this output"): "
        + (verdict.problem ?? "") + (verdict.remedy.map { "; \($0)" } ?? "")
    }
  }

  /// Refuses an output that the requested engine would not serve.
  ///
  /// - Throws: `.invalidRequest` with the problem that the engine would run into.
  static func require(_ engine: Engine, of plan: ShardPlan) throws(CheckpointError) {
    guard let engines = PlannedEngines(plan) else {
      let part = plan.parts.first
      guard part.flatMap(configuration(of:)).flatMap({ Step3Configuration.family(configJSON: $0) }) != nil
      else {
        throw CheckpointError(
          .invalidRequest,
          "whether \(engine.name) would load \(plan.source.architecture?.printable ?? "a model without a name") is not known: "
            + "its rules are known only for the Step family", remedy: "leave --for-engine out")
      }
      throw CheckpointError(
        .invalidRequest, "\(engine.name) loads only whole models in safetensors",
        remedy: "give --to safetensors without --partition, or leave --for-engine out")
    }
    try engines.require(engine)
  }

  private func require(_ engine: Engine) throws(CheckpointError) {
    guard let verdict = verdicts.first(where: { $0.engine == engine.name }), !verdict.ok else { return }
    throw CheckpointError(
      .invalidRequest,
      "\(verdict.engine) \(verdict.version) would \(verdict.loadsWrongly ? "load this output wrongly" : "not load this output"): "
        + (verdict.problem ?? "nothing is known"), remedy: verdict.remedy)
  }
}
