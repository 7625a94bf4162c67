import ArgumentParser
import CommandSupport
import ParallelWork
import Step3Model
import Step3Runtime
import TensorFormats
import Verification

/// `step3-verify logits`: compares the candidate's logits with the reference's.
struct Logits: CheckCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a candidate and its reference, and compare their logits.",
    discussion: """
      The reference is another checkpoint, of any format, or a file of logits (.safetensors with input_ids and logits, \
      or .npy). Limits turn figures into checks: the exit code is 1 if one is exceeded. Then, or with --bisect, the \
      first layer and tensor are named whose error is larger than its format explains; with --bisect such a fault \
      alone sets the exit code to 1.

      Figures come with standard errors if the text has several sequences. --compare compares two candidates fairly, \
      on the same tokens.

      Weights are read once per model and streamed; memory is bounded by --memory.

      Examples:
        step3-verify logits step3-q4 --reference step3 --prompt "The lighthouse keeper" --max-mean-kl 0.05
        step3-verify logits step3-fp8 --reference logits.safetensors --max-kl 0.02 --min-top1 0.97
        step3-verify logits step3-gptq --compare step3-rtn --reference step3 --tokens-file held-out.safetensors
      """)

  @Argument(help: "The checkpoint to check.", completion: .file())
  var candidate: String

  @Option(
    name: .long,
    help: ArgumentHelp("The checkpoint it was made from, or a file of logits.", valueName: "path"),
    completion: .file())
  var reference: String

  @Option(
    name: .customLong("compare"),
    help: ArgumentHelp(
      "A second candidate: the same figures, and how it differs from the first, position by position.",
      valueName: "other"),
    completion: .file())
  var other: String?

  @OptionGroup(title: "Prompts") var prompts: PromptOptions

  @Option(
    name: .customLong("max-kl"),
    help: ArgumentHelp("The largest allowed KL divergence of any token.", valueName: "x"))
  var maxKL: Double?
  @Option(
    name: .customLong("max-mean-kl"),
    help: ArgumentHelp("The largest allowed mean KL divergence.", valueName: "x"))
  var maxMeanKL: Double?
  @Option(
    name: .customLong("min-top1"),
    help: ArgumentHelp("The smallest allowed share of positions with the same top-1 token.", valueName: "x"))
  var minTop1: Double?
  @Option(
    name: .customLong("min-top5"),
    help: ArgumentHelp("The smallest allowed overlap of the top-5 tokens.", valueName: "x"))
  var minTop5: Double?
  @Option(
    name: .customLong("max-abs"),
    help: ArgumentHelp("The largest allowed difference between two logits.", valueName: "x")
  )
  var maxAbs: Double?
  @Option(
    name: .customLong("min-expert-agreement"),
    help: ArgumentHelp("The smallest allowed share of identical experts in any layer.", valueName: "x"))
  var minExpertAgreement: Double?

  @Flag(name: .long, help: "Look for the first faulty layer and tensor even if all checks pass.")
  var bisect = false

  @Option(
    name: .long,
    help: ArgumentHelp("Write the candidate's logits to this .safetensors file.", valueName: "file"),
    completion: .file())
  var dump: String?

  @Flag(name: .long, help: "Include the KL divergence of each token in --json, for step3-inspect report.")
  var perToken = false

  @OptionGroup(title: "Disaggregation") var afd: AFDRunOptions
  @OptionGroup var limits: MemoryOptions
  @OptionGroup var common: CommonOptions

  func validate() throws {
    if perToken, !common.json { throw ValidationError("--per-token needs --json, whose output it extends.") }
    if afd.afd, bisect {
      throw ValidationError("--bisect compares weights in one process; give it without --afd.")
    }
    for (name, value) in [
      ("max-kl", maxKL), ("max-mean-kl", maxMeanKL), ("max-abs", maxAbs), ("min-top1", minTop1),
      ("min-top5", minTop5), ("min-expert-agreement", minExpertAgreement),
    ] {
      guard let value else { continue }
      guard value.isFinite, value >= 0, !name.hasPrefix("min") || value <= 1 else {
        throw ValidationError(
          "--\(name) must be \(name.hasPrefix("min") ? "from 0 to 1" : "0 or more"); got \(value).")
      }
    }
  }

  func outcome() async throws -> CheckOutcome {
    let setup = ForwardSetup(
      common: common, prompts: prompts,
      options: RuntimeOptions(threads: common.threadCount, memory: limits.memory.bytes))
    var candidateSetup = setup
    candidateSetup.afd = afd
    let source = try open(setup)
    let opened = try candidateSetup.open(candidate)
    defer { opened.close() }
    let runner = opened.runner
    let second = try other.map { try setup.runner($0) }
    // A file of logits holds its own tokens.
    let fallback: [Int]? = if case .file(let file) = source { file.tokens } else { nil }
    let input = try setup.input(for: runner, fallback: fallback)
    let start = ContinuousClock.now
    let outcome = try await Interruption.cancelling { try await compare(runner, second, source, input) }
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    let document = LogitsDocument(
      ok: outcome.ok, report: outcome.report, failure: outcome.failure, bisection: outcome.bisection,
      bytesRead: outcome.bytesRead, seconds: seconds)
    return CheckOutcome(
      kind: .logits, document: document,
      text: LogitsText(document, candidate: candidate, other: other, reference: reference).text(
        width: StandardStream.output.columns), status: outcome.ok ? .success : .checkFailed)
  }

  private func open(_ setup: ForwardSetup) throws -> LogitsVerification.Reference {
    guard LogitsFile.isMeant(by: reference) else { return .model(try setup.runner(reference)) }
    if bisect {
      throw ValidationError(
        "--bisect compares weights; a file of logits has none. Give a checkpoint as --reference.")
    }
    if minExpertAgreement != nil {
      throw ValidationError(
        "--min-expert-agreement needs a checkpoint as --reference; a file has no experts.")
    }
    return .file(try LogitsFile(reference))
  }

  private struct Outcome: Sendable {
    var report: LogitsReport?
    var failure: String?
    var bisection: BisectionReport?
    var bytesRead = 0

    var ok: Bool { report?.ok ?? false && bisection?.ok ?? true }
  }

  private func compare(
    _ runner: ModelRunner, _ second: ModelRunner?, _ source: LogitsVerification.Reference,
    _ input: ForwardInput
  ) async throws -> Outcome {
    let verification = try LogitsVerification(
      candidate: runner, other: second, reference: source, input: input)
    let file = try dump.map {
      try LogitsDump($0, tokens: input.batch.tokens, vocabulary: runner.model.text.vocabularySize)
    }
    var outcome = Outcome()
    do {
      outcome.report = try await reporting("comparing", verification.byteCount) { monitor in
        try verification.run(
          limits: LogitsLimits(
            maxKL: maxKL, maxMeanKL: maxMeanKL, maxAbs: maxAbs, minTop1: minTop1, minTop5: minTop5,
            minExpertAgreement: minExpertAgreement), perToken: perToken, monitor: monitor
        ) { row, logits in try file?.writeLogits(logits, row: row) }
      }
      try file?.finish()
    } catch let error as CheckpointError where Bisection.canExplain(error) {
      // A candidate that cannot be run has failed; the search finds out where. It throws if the reference is at fault.
      guard case .model = source, !afd.afd else { throw error }
      outcome.failure = "\(error)"
    }
    outcome.bytesRead = runner.model.products.bytesRead + (second?.model.products.bytesRead ?? 0)
    guard case .model(let other) = source else { return outcome }
    if !afd.afd, bisect || !outcome.ok {
      let search = Bisection(reference: other, candidate: runner, input: input)
      outcome.bisection = try await reporting("looking for the first fault", search.byteCount) {
        try await search.run(monitor: $0)
      }
    }
    outcome.bytesRead =
      runner.model.products.bytesRead + (second?.model.products.bytesRead ?? 0)
      + other.model.products.bytesRead
    return outcome
  }

  private func reporting<Result>(
    _ activity: String, _ bytes: Int, _ work: (WorkMonitor) async throws -> Result
  ) async throws -> Result {
    let progress = common.progressReporter(activity, total: bytes)
    defer { progress.finish() }
    return try await work(
      WorkMonitor(advance: { progress.advance(by: $0) }, item: { progress.setItem($0) }))
  }
}
