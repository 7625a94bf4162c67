import ArgumentParser
import Calibration
import Checkpoint
import CommandSupport
import Locations
import Step3Runtime
import StoredWeights
import TensorFormats

/// `step3-convert calibrate`: an importance matrix, measured on a text.
struct Calibrate: ToolCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a text through a model and measure an importance matrix for quantisation.",
    discussion: """
      Writes an importance matrix in llama.cpp's GGUF form, for --imatrix here and in llama-quantize. All tokens go \
      through one layer at a time, so that each weight is read once; routed experts see the tokens routed to them. \
      Activations between layers are kept in STATS.calibrating until STATS is complete.

      Examples:
        step3-convert calibrate step3 step3.imatrix.gguf --text calibration.txt
        step3-convert calibrate step3 step3.imatrix.gguf --tokens-file tokens.safetensors --resume
        step3-convert step3 step3-iq3 --to gguf --quantize IQ3_XXS --imatrix step3.imatrix.gguf
      """)

  @Argument(help: "The checkpoint to run.", completion: .file())
  var source: String

  @Argument(
    help: "The file to write. It must not exist, unless --overwrite is given.", completion: .file())
  var stats: String

  @OptionGroup(title: "Text") var text: CalibrationTextOptions

  @Option(
    name: .customLong("memory"),
    help: ArgumentHelp(
      "The memory for activations and tiles of weights; the weights themselves are streamed.",
      valueName: "size"))
  var memory = ByteSize(bytes: 2 << 30)

  @Flag(name: .long, help: "Resume an interrupted calibration, or start one.")
  var resume = false

  @Flag(name: .long, help: "Replace the file, and discard what an interrupted calibration left behind.")
  var overwrite = false

  @OptionGroup var common: CommonOptions

  func validate() throws {
    if resume, overwrite { throw ValidationError("--resume and --overwrite are mutually exclusive.") }
    guard memory.bytes >= 1 << 26 else {
      throw ValidationError("--memory must be at least 64.0 MiB; got \(memory.binary).")
    }
  }

  func run() async throws {
    let checkpoint = try Location(source).open()
    CommonOptions.warn("step3-convert", checkpoint.warnings)
    let start = ContinuousClock.now
    do {
      let input = try text.source.input(for: checkpoint)
      let calibration = ImportanceCalibration(
        try ModelWeights(checkpoint), input, settings: .init(minimumExpertTokens: text.minimumExpertTokens),
        options: RuntimeOptions(threads: common.threadCount, memory: memory.bytes))
      let (stats, resume, overwrite, common) = (stats, resume, overwrite, common)
      let outcome = try await Interruption.keepingWhatIsDone(common) {
        try common.reporting("calibrating") { begin in
          try calibration.run(to: stats, resume: resume, overwrite: overwrite, begin: begin)
        }
      }
      let summary = CalibrationSummary(
        outcome, output: stats, input, seconds: (ContinuousClock.now - start) / .seconds(1))
      if common.json { return try StandardStream.output.write(json: summary, as: .calibration) }
      try StandardStream.output.write(sentences: summary.text)
    } catch let error as CheckpointError {
      throw checkpoint.locating(error)
    }
  }
}

/// The text that a calibration runs through the model.
struct CalibrationTextOptions: ParsableArguments {
  @Option(
    name: .customLong("tokens-file"),
    help: ArgumentHelp(
      """
      Token ids from a file: .safetensors with input_ids, or JSON (a list, or a list of lists, one for each sequence). \
      May be given more than once.
      """, valueName: "file"), completion: .file())
  var tokensFile: [String] = []

  @Option(
    name: .long,
    help: ArgumentHelp(
      "UTF-8 text, encoded with the checkpoint's own tokenizer and cut into sequences. May be given more than once.",
      valueName: "file"), completion: .file())
  var text: [String] = []

  @OptionGroup var sequences: SequenceOptions

  @Option(
    name: .customLong("min-expert-tokens"),
    help: ArgumentHelp(
      "Experts that saw fewer tokens are filled in with the layer's average, and listed.", valueName: "n"))
  var minimumExpertTokens = 128

  func validate() throws {
    if tokensFile.isEmpty, text.isEmpty {
      throw ValidationError("Give a text to calibrate with, by --tokens-file or --text.")
    }
    try Self.check(minimumExpertTokens: minimumExpertTokens)
  }

  static func check(minimumExpertTokens: Int) throws {
    guard (0...1 << 30).contains(minimumExpertTokens) else {
      throw ValidationError("--min-expert-tokens must be 0 or more; got \(minimumExpertTokens).")
    }
  }

  var source: CalibrationText {
    CalibrationText(
      tokens: tokensFile, text: text, sequenceLength: sequences.sequenceLength,
      startsWithBOS: !sequences.noBOS)
  }
}

/// What `calibrate` prints.
struct CalibrationSummary: Encodable {
  let output: String
  let tokens: Int
  let sequences: Int
  /// The weights that the file covers.
  let entries: Int
  let bytes: Int
  let fewestExpertTokens: Int?
  /// Experts filled in with the layer's average.
  let filledExperts: [ExpertCoverage]
  let layersResumed: Int
  let seconds: Double
  let peakMemoryBytes: Int

  init(
    _ outcome: ImportanceCalibration.Outcome, output: String, _ input: CalibrationInput, seconds: Double
  ) {
    self.output = output
    tokens = input.tokenCount
    sequences = input.sequences.count
    entries = outcome.entries
    bytes = outcome.bytes
    fewestExpertTokens = outcome.fewestExpertTokens
    filledExperts = outcome.scarce
    layersResumed = outcome.layersResumed
    self.seconds = seconds
    peakMemoryBytes = ProcessUsage.peakMemoryBytes
  }

  var text: String {
    var text =
      "\(output.printable): \(entries) weights measured on \(tokens) tokens in \(sequences) sequence\(sequences == 1 ? "" : "s"), "
    text += "\(ByteSize(bytes: bytes).decimal)\n"
    if let fewestExpertTokens { text += "  the least used expert saw \(fewestExpertTokens) tokens\n" }
    if !filledExperts.isEmpty {
      text += "  \(filledExperts.count) experts saw too few and were filled in with their layer's average:\n"
      for expert in filledExperts {
        text += "    layer \(expert.layer), expert \(expert.expert): \(expert.tokens)\n"
      }
    }
    text +=
      "  \(NumberText.decimals(seconds, 1)) s, \(rate), peak memory \(ByteSize(bytes: peakMemoryBytes).binary)\n"
    return text
      + "  use it with: step3-convert SOURCE OUTPUT --quantize RECIPE --imatrix \(output.printable)\n"
  }

  private var rate: String {
    seconds > 0 ? "\(NumberText.decimals(Double(tokens) / seconds, 0)) tokens/s" : "- tokens/s"
  }
}
