import ArgumentParser
import Checkpoint
import CommandSupport
import ServingEngines
import Locations
import TensorFormats

/// The engines to replay.
enum EngineChoice: String, ExpressibleByArgument, CaseIterable {
  case vllm, sglang, both

  var engines: [Engine] {
    switch self {
    case .vllm: [.vllm]
    case .sglang: [.sglang]
    case .both: Engine.allCases
    }
  }
}

/// `step3-verify engine`: whether serving engines would load a checkpoint correctly.
struct EngineCommand: CheckCommand {
  static let configuration = CommandConfiguration(
    commandName: "engine",
    abstract: "Replay what vLLM and SGLang do when they load a checkpoint.",
    discussion: """
      Reads headers, config.json and scales per matrix, and follows the engines' rules: names, shapes, types, which \
      modules the configuration quantises under the engines' own names, and how many ranks the blocks allow. Says what \
      the engine would do about each fault, above all if it would silently load something else. Exit code 0 if it \
      would load and serve the checkpoint correctly, 1 if not.
      """)

  @Argument(help: "The checkpoint to be served.", completion: .directory)
  var path: String

  @Option(help: "The engine.")
  var engine: EngineChoice = .both

  @Option(
    name: .customLong("tp"), help: ArgumentHelp("Also check this many tensor-parallel ranks.", valueName: "n")
  )
  var tensorParallel: Int?

  @OptionGroup var common: CommonOptions

  func validate() throws {
    if let tensorParallel, !(1...1024).contains(tensorParallel) {
      throw ValidationError("--tp must be between 1 and 1024; got \(tensorParallel).")
    }
  }

  func outcome() async throws -> CheckOutcome {
    let checkpoint = try common.location(path).open()
    var reports: [EngineReport] = []
    do throws(CheckpointError) {
      let subject = try EngineSubject(checkpoint)
      for engine in engine.engines {
        reports.append(try EngineReport(subject, engine: engine, tensorParallel: tensorParallel))
      }
    } catch {
      throw checkpoint.locating(error)
    }
    return CheckOutcome(
      kind: .engine, document: EngineReports(path: path, reports: reports),
      text: reports.map(Self.text).joined(separator: "\n"),
      status: reports.allSatisfy(\.ok) ? .success : .checkFailed)
  }
}

/// The document of `--json`.
private struct EngineReports: Encodable {
  let ok: Bool
  let path: String
  let engines: [EngineReport]

  init(path: String, reports: [EngineReport]) {
    ok = reports.allSatisfy(\.ok)
    self.path = path
    engines = reports
  }
}

// MARK: - Text

extension EngineCommand {
  /// One engine's block: the verdict, the schemes, the findings.
  fileprivate static func text(_ report: EngineReport) -> String {
    var text = "\(report.engine.name) \(report.version): \(verdict(report))\n"
    for scheme in report.schemes {
      let ranks = scheme.largestTP.map { "up to \($0) \($0 == 1 ? "rank" : "ranks")" } ?? "no rank"
      text += "  \(padded(scheme.kind.rawValue, 10)) \(scheme.scheme.printable), \(scheme.modules) "
      text += "\(scheme.modules == 1 ? "module" : "modules"), \(ranks)\n"
    }
    if let ranks = report.largestTP {
      text += "  largest tensor-parallel degree: \(ranks)"
      text += (report.limit.map { " (\($0))" } ?? "") + "\n"
    }
    text += EngineFindingText(report.findings).text
    if report.findingsDropped > 0 { text += "  and \(report.findingsDropped) more findings\n" }
    for check in report.checksSkipped { text += "  not checked: \(check)\n" }
    return text
  }

  private static func verdict(_ report: EngineReport) -> String {
    let findings = EngineFindingText(report.findings)
    let (errors, silent) = (findings.count(of: .error), findings.count(of: .silent))
    let warnings = findings.count(of: .warning)
    func counted(_ count: Int, _ word: String) -> String { "\(count) \(word)\(count == 1 ? "" : "s")" }
    let note = warnings > 0 ? " (\(counted(warnings, "warning")))" : ""
    if report.ok { return "would load\(note)" }
    if errors > 0 {
      return "would NOT load: \(counted(errors, "error"))"
        + (silent > 0 ? ", \(counted(silent, "silent fault"))" : "") + note
    }
    return "would load WRONGLY: \(counted(silent, "silent fault"))\(note)"
  }

  private static func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }
}
