import ArgumentParser
import CommandSupport
import StoredWeights
import Step3Model
import Step3Runtime
import TensorFormats
import Tokenization
import Verification

/// `step3-verify run`: only the forward pass.
struct Run: ToolCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run prompts through a checkpoint and show its output.",
    discussion: """
      Prints the top tokens after each prompt; --generate continues it greedily. --dump writes the logits of all \
      tokens, and with --hidden-states the residual stream after each layer, for other programs to compare with. \
      Layers that predict further tokens are not run, pictures are for Step-3 only, and Step-5's full layers see \
      everything, which is exact up to 4,104 tokens and refused beyond.

      Examples:
        step3-verify run step3 --prompt "The lighthouse keeper" --generate 8
        step3-verify run step3 --tokens 0,128,345 --dump logits.safetensors --hidden-states
      """)

  @Argument(help: "The checkpoint to run.", completion: .file())
  var path: String

  @OptionGroup(title: "Prompts") var prompts: PromptOptions

  @Option(
    name: .long, help: ArgumentHelp("Continue each prompt greedily by this many tokens.", valueName: "n"))
  var generate = 0

  @Option(
    name: .long,
    help: ArgumentHelp("Write input_ids and logits to this .safetensors file.", valueName: "file"),
    completion: .file())
  var dump: String?

  @Flag(
    name: .customLong("hidden-states"),
    help: "Write the residual stream after each layer to the dump as well.")
  var hiddenStates = false

  @OptionGroup(title: "Disaggregation") var afd: AFDRunOptions
  @OptionGroup var limits: MemoryOptions
  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard prompts.hasTokens else {
      throw ValidationError("Give the tokens to run: --tokens, --tokens-file or --prompt.")
    }
    if hiddenStates, dump == nil { throw ValidationError("--hidden-states needs --dump.") }
    guard (0...65_536).contains(generate) else {
      throw ValidationError("--generate must be from 0 to 65536; got \(generate).")
    }
  }

  func run() async throws {
    let setup = ForwardSetup(
      common: common, prompts: prompts,
      options: RuntimeOptions(threads: common.threadCount, memory: limits.memory.bytes),
      afd: afd)
    let opened = try setup.open(path)
    defer { opened.close() }
    let runner = opened.runner
    let input = try setup.input(for: runner)
    let start = ContinuousClock.now
    var outcome = try await Interruption.cancelling { try forward(runner, input) }
    outcome.bytesRead = runner.model.products.bytesRead
    outcome.ranks = opened.session.map { $0.traffic.map(RunOutcome.Rank.init) }
    outcome.seconds = (ContinuousClock.now - start) / .seconds(1)
    // A checkpoint without a tokenizer can run too; its tokens are shown as numbers.
    let tokenizer = try? Tokenizer(of: runner.model.weights.checkpoint)
    outcome.name(with: tokenizer)
    if common.json {
      try StandardStream.output.write(json: outcome, as: .run)
    } else {
      try StandardStream.output.write(
        outcome.text(named: tokenizer != nil, width: StandardStream.output.columns))
    }
  }

  private func forward(_ runner: ModelRunner, _ input: ForwardInput) throws -> RunOutcome {
    let batch = input.batch
    let layers = runner.model.text.layerCount
    let file = try dump.map {
      try LogitsDump(
        $0, tokens: batch.tokens, vocabulary: runner.model.text.vocabularySize,
        hiddenStates: hiddenStates ? HiddenStateRecorder.numbers(layerCount: layers) : [],
        hiddenSize: runner.model.text.hiddenSize)
    }
    let recorder = hiddenStates ? file.map { HiddenStateRecorder(layerCount: layers, dump: $0) } : nil
    let watched = try recorder.map { try runner.observed(by: $0) } ?? runner
    let chunks = runner.logitChunks(batch, sides: 1).count
    let progress = common.progressReporter(
      "running", total: runner.estimatedBytes(tokens: batch.tokens.count, logitChunks: chunks))
    defer { progress.finish() }
    let embedded = try input.embedded(in: watched)
    let start = generate > 0 ? embedded.copy(rows: 0..<embedded.rows) : embedded
    let normalised = try watched.run(batch, embedded: start) { step in
      guard case .layer(let layer, let count, let bytes) = step else { return }
      progress.advance(by: bytes)
      progress.setItem("layer \(layer + 1) of \(count)")
    }
    var outcome = RunOutcome(path: path, tokens: batch.tokens.count)
    var summary = RunOutcome.Summary(batch)
    try runner.logits(
      normalised, of: batch, progress: { if case .logits(let bytes) = $0 { progress.advance(by: bytes) } }
    ) {
      tokens, logits in
      for token in tokens {
        let row = logits[token - tokens.lowerBound]
        try file?.writeLogits(row, row: token)
        summary.add(row, token: token)
      }
    }
    outcome.prompts = summary.prompts
    try recorder?.check()
    try file?.finish()
    progress.finish()
    if generate > 0 { try continuePrompts(runner, input, embedded, &outcome) }
    return outcome
  }

  private func continuePrompts(
    _ runner: ModelRunner, _ input: ForwardInput, _ embedded: Activations, _ outcome: inout RunOutcome
  ) throws {
    let prompts = input.batch.ranges.map { Array(input.batch.tokens[$0]) }
    let stop = Set(runner.model.weights.configuration?.eosTokenIDs ?? [])
    let progress = common.progressReporter(
      "generating", total: generate * runner.estimatedBytes(tokens: prompts.count, logitChunks: 1))
    defer { progress.finish() }
    let continuations = try runner.generate(prompts, count: generate, stop: stop, embedded: embedded) { _ in
      progress.advance(by: runner.estimatedBytes(tokens: prompts.count, logitChunks: 1))
    }
    for index in outcome.prompts.indices { outcome.prompts[index].generated = continuations[index] }
  }
}
