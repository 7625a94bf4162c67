import ArgumentParser
import ByteStreams
import Checkpoint
import CommandSupport
import Locations
import Step3Model
import TensorFormats
import Verification

/// `step3-verify all`: every check that applies, cheapest first, and one verdict.
struct All: ToolCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run every check that applies to an output, and give one verdict.",
    discussion: """
      Cheapest first: engine (headers, safetensors of the Step family only), checksums (the output once), signature \
      (with --public-key; does not reread what checksums has read), tensors (output and source once), logits (both \
      again, layer by layer; models that can be run only). A failed check does not stop the next ones. Checks that do \
      not apply are listed with the reason, and so are measurements without a limit: logits have one only if \
      --max-mean-kl or --max-abs is given, because the cost of rounding depends on the model.

      Exit code 0 if all checks that ran pass, 1 if any fails, 65 to 74 if a check could not be run.

      Example:
        step3-verify all step3-q4 --source step3 --tokens-file prompts.json --max-mean-kl 0.1
      """)

  @Argument(help: "The checkpoint to check, as written by step3-convert.", completion: .directory)
  var output: String

  @Option(
    name: .long, help: ArgumentHelp("The checkpoint that it was made from.", valueName: "path"),
    completion: .file())
  var source: String

  @Option(help: "The engine that will serve it.")
  var engine: EngineChoice = .both

  @Option(
    name: .customLong("tp"), help: ArgumentHelp("Also check this many tensor-parallel ranks.", valueName: "n")
  )
  var tensorParallel: Int?

  @Option(
    name: .long, help: ArgumentHelp("The root digest that the manifest must have.", valueName: "sha256"),
    transform: Checksums.digest)
  var pin: Digest?

  @Option(
    name: .customLong("public-key"),
    help: ArgumentHelp(
      "The public key that the output should be signed with: a PEM file.", valueName: "file"),
    completion: .file())
  var publicKey: String?

  @OptionGroup(title: "Prompts") var prompts: PromptOptions

  @Option(
    name: .customLong("max-mean-kl"),
    help: ArgumentHelp("The largest allowed mean KL divergence of the logits.", valueName: "x"))
  var maxMeanKL: Double?

  @Option(
    name: .customLong("max-abs"),
    help: ArgumentHelp("The largest allowed difference between two logits.", valueName: "x")
  )
  var maxAbs: Double?

  @OptionGroup var limits: MemoryOptions
  @OptionGroup var common: CommonOptions

  func validate() throws {
    // The checks' own validation, before anything is read.
    try engineCheck().validate()
    try logits().validate()
  }

  func run() async throws {
    var results: [CheckResult] = []
    for (name, check, reason) in try planned() {
      guard let check else {
        results.append(CheckResult(name: name, skipped: reason))
        continue
      }
      if !common.json { try StandardStream.output.write("\(results.isEmpty ? "" : "\n")== \(name)\n") }
      let start = ContinuousClock.now
      let outcome: Result<CheckOutcome, CheckpointError>
      do {
        outcome = .success(try await check.outcome())
      } catch let error as CheckpointError {
        outcome = .failure(error)
      }
      let seconds = (ContinuousClock.now - start) / .seconds(1)
      switch outcome {
      case .success(let outcome):
        results.append(CheckResult(name: name, seconds: seconds, outcome: outcome, note: note(on: name)))
        if !common.json { try common.write(report: outcome.text) }
      case .failure(let error):
        results.append(CheckResult(name: name, seconds: seconds, error: error))
        if !common.json { try common.write(report: "FAILED: \(error)\n") }
      }
    }
    let verdict = Verdict(output: output, source: source, results: results)
    if common.json {
      try StandardStream.output.write(json: verdict, as: .all)
    } else {
      try common.write(report: "\n" + verdict.text)
    }
    if verdict.status != .success { throw CommandLineTool.end(verdict.status) }
  }

  /// The checks in order; those that do not apply with the reason.
  private func planned() throws -> [(name: String, check: (any CheckCommand)?, reason: String)] {
    let location = try common.location(output)
    let checkpoint = try location.open()
    let isRun = ModelFamily(of: checkpoint) != nil
    let isSet = !checkpoint.parts.isEmpty
    let servable = checkpoint.format == .safetensors && !isSet && isRun
    let signed = try publicKey.map { try signature($0, store: location.store) }
    return [
      (
        "engine", servable ? try engineCheck() : nil,
        "engines load only whole models of the Step family in safetensors"
      ),
      ("checksums", try checksums(), ""),
    ] + (signed.map { [("signature", $0, "")] } ?? []) + [
      ("tensors", try tensors(), ""),
      (
        "logits", isRun && prompts.hasTokens ? try logits(afd: isSet) : nil,
        isRun
          ? "no text was given: use --prompt, --tokens or --tokens-file"
          : "only models of the Step family can be run; this is not one"
      ),
    ]
  }

  /// A note on what was measured but not judged.
  private func note(on check: String) -> String? {
    check == "logits" && maxMeanKL == nil && maxAbs == nil
      ? "measured without a limit: give --max-mean-kl or --max-abs" : nil
  }

  private func checksums() throws -> Checksums {
    var check = try Checksums.parse([Self.path(output)])
    check.pin = pin
    check.common = common
    return check
  }

  /// Once checksums has checked every byte against the manifest, only the manifest remains to be checked against the
  /// signature.
  private func signature(_ publicKey: String, store: any ByteStore) throws -> SignatureCommand {
    var check = try SignatureCommand.parse([Self.path(output), "--public-key", Self.path(publicKey)])
    check.manifestOnly = try store.kind(of: OutputMarkers.manifest) == .file
    check.common = common
    return check
  }

  private func engineCheck() throws -> EngineCommand {
    var check = try EngineCommand.parse([Self.path(output)])
    check.engine = engine
    check.tensorParallel = tensorParallel
    check.common = common
    return check
  }

  private func tensors() throws -> Tensors {
    var check = try Tensors.parse([Self.path(output), "--source", Self.path(source)])
    check.common = common
    return check
  }

  private func logits(afd: Bool = false) throws -> Logits {
    var check = try Logits.parse(
      [Self.path(output), "--reference", Self.path(source)] + (afd ? ["--afd"] : []))
    check.maxMeanKL = maxMeanKL
    check.maxAbs = maxAbs
    check.prompts = prompts
    check.limits = limits
    check.common = common
    return check
  }

  /// A path that cannot be mistaken for an option.
  private static func path(_ path: String) -> String { path.hasPrefix("-") ? "./" + path : path }
}

/// The outcome of one of the checks.
private struct CheckResult: Encodable {
  let name: String
  /// `nil` if it did not run.
  var ok: Bool?
  var seconds: Double?
  /// Why it did not run.
  var skipped: String?
  /// Why it could not be completed.
  var error: String?
  /// What its verdict does not cover.
  var note: String?
  let status: ExitStatus
  private let report: (any Encodable)?

  init(name: String, skipped: String) {
    self.name = name
    self.skipped = skipped
    status = .success
    report = nil
  }

  init(name: String, seconds: Double, outcome: CheckOutcome, note: String?) {
    self.name = name
    self.seconds = seconds
    self.note = note
    ok = outcome.status == .success
    status = outcome.status
    report = outcome.document
  }

  init(name: String, seconds: Double, error: CheckpointError) {
    self.name = name
    self.seconds = seconds
    self.error = error.description
    ok = false
    status = ExitStatus(error)
    report = nil
  }

  private enum CodingKeys: String, CodingKey { case name, ok, seconds, skipped, error, note, report }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(name, forKey: .name)
    try container.encode(ok, forKey: .ok)
    try container.encode(seconds, forKey: .seconds)
    try container.encode(skipped, forKey: .skipped)
    try container.encode(error, forKey: .error)
    try container.encode(note, forKey: .note)
    if let report { try report.encode(to: container.superEncoder(forKey: .report)) }
  }
}

/// The overall verdict, and the document of `--json`.
private struct Verdict: Encodable {
  let ok: Bool
  let output: String
  let source: String
  let checks: [CheckResult]

  init(output: String, source: String, results: [CheckResult]) {
    self.output = output
    self.source = source
    checks = results
    ok = results.allSatisfy { $0.ok != false }
  }

  /// A failed check takes precedence over one that could not be run.
  var status: ExitStatus {
    if ok { return .success }
    let failed = checks.filter { $0.ok == false }
    return failed.contains { $0.status == .checkFailed } ? .checkFailed : failed[0].status
  }

  var text: String {
    var text = ""
    for check in checks {
      let outcome =
        check.skipped != nil
        ? "not run" : check.ok != true ? "FAILED" : check.note == nil ? "passed" : "measured"
      text += "  " + check.name + String(repeating: " ", count: max(1, 12 - check.name.count)) + outcome
      if let seconds = check.seconds { text += " (\(NumberText.decimals(seconds, 1)) s)" }
      if let reason = check.skipped ?? check.note { text += ": \(reason)" }
      text += "\n"
    }
    text += "\(output.printable): \(conclusion)\n"
    return text
  }

  /// A figure without a limit has passed nothing, and a check that was not run neither.
  private var conclusion: String {
    guard ok else { return "FAILED: \(checks.filter { $0.ok == false }.map(\.name).joined(separator: ", "))" }
    let ran = checks.filter { $0.ok != nil }
    let passed = ran.filter { $0.note == nil }.count
    let measured = ran.filter { $0.note != nil }.map(\.name).joined(separator: ", ")
    let parts = [
      passed > 1 ? "all \(passed) checks that ran passed" : passed == 1 ? "the check that ran passed" : nil,
      measured.isEmpty ? nil : "\(measured) measured without a limit",
    ].compactMap(\.self)
    return parts.isEmpty ? "no check was run" : parts.joined(separator: "; ")
  }
}
