public import ArgumentParser
import Calibration
import Checkpoint
import CommandSupport
import Conversion
import ParallelWork
public import ShardPlanning
import Step3Runtime
import TensorFormats

extension ShardPlan.Calibration.Method: ExpressibleByArgument {}

/// How codes are chosen by calibration on a text.
struct MethodOptions: ParsableArguments {
  @Option(
    name: .long,
    help: "Choose codes by the activations that enter each layer when a text runs through the model.")
  var method: ShardPlan.Calibration.Method?

  @Option(
    name: .customLong("calibration-tokens"),
    help: ArgumentHelp(
      "The text as token ids: .safetensors with input_ids, or JSON. May be given more than once.",
      valueName: "file"), completion: .file())
  var tokens: [String] = []

  @Option(
    name: .customLong("calibration-text"),
    help: ArgumentHelp(
      "The text in UTF-8, encoded with the checkpoint's own tokenizer. May be given more than once.",
      valueName: "file"), completion: .file())
  var text: [String] = []

  @OptionGroup var sequences: SequenceOptions

  @Option(
    name: .long,
    help: ArgumentHelp(
      "What is added to the diagonal of the second moments, relative to its mean.", valueName: "x"))
  var damping = 0.01

  @Option(
    name: .customLong("min-expert-tokens"),
    help: ArgumentHelp("Experts that saw fewer tokens are rounded to nearest, and listed.", valueName: "n"))
  var minimumExpertTokens = 128

  func validate() throws {
    guard method != nil else {
      guard tokens.isEmpty, text.isEmpty else {
        throw ValidationError("--calibration-tokens and --calibration-text need --method.")
      }
      return
    }
    if tokens.isEmpty, text.isEmpty {
      throw ValidationError("--method needs a text: --calibration-tokens or --calibration-text.")
    }
    guard damping.isFinite, damping > 0 else {
      throw ValidationError("--damping must be more than 0; got \(damping).")
    }
    try CalibrationTextOptions.check(minimumExpertTokens: minimumExpertTokens)
  }

  /// The text, if there is a method that needs one.
  func input(for checkpoint: Checkpoint) throws -> CalibrationInput? {
    guard method != nil else { return nil }
    return try CalibrationText(
      tokens: tokens, text: text, sequenceLength: sequences.sequenceLength, startsWithBOS: !sequences.noBOS
    ).input(for: checkpoint)
  }

  /// What the plan records about it.
  func described(_ input: CalibrationInput?) -> ShardPlan.Calibration? {
    guard let method, let input else { return nil }
    return ShardPlan.Calibration(
      method, damping: damping, minimumExpertTokens: minimumExpertTokens, datasets: input.datasets,
      tokens: input.tokenCount, xxh3: input.digest)
  }
}

/// Calibrates the codes of a plan, showing progress, until it is done or the user interrupts it.
struct CalibratedRun {
  let calibration: GPTQCalibration
  let output: String
  let running: RunningOptions
  let common: CommonOptions

  func run() async throws -> GPTQCalibration.Outcome {
    let (calibration, output, running, common) = (calibration, output, running, common)
    let outcome = try await Interruption.keepingWhatIsDone(common) {
      try common.reporting("calibrating") { begin in
        try calibration.run(
          for: output, resume: running.resume, overwrite: running.overwrite, begin: begin)
      }
    }
    for fallback in outcome.fallbacks {
      let which = fallback.expert.map { ", expert \($0)" } ?? ""
      let what =
        switch fallback.reason {
        case .fewTokens: "rounded to nearest, because only \(fallback.tokens ?? 0) tokens were routed to it"
        case .notPositiveDefinite: "rounded to nearest, because its second moments are not positive definite"
        case .format: "encoded without GPTQ, which does not support its format"
        }
      CommonOptions.warn("step3-convert", ["\(fallback.tensor)\(which): \(what)"])
    }
    common.note(
      "step3-convert",
      "\(outcome.matrices) matrices by GPTQ, \(outcome.layersResumed) layers had been done before; forward pass "
        + "\(NumberText.decimals(outcome.times.forwardPass, 1)) s, GPTQ "
        + "\(NumberText.decimals(outcome.times.total - outcome.times.forwardPass, 1)) s")
    return outcome
  }
}
