import Archives
import Calibration
import Checkpoint
import CommandSupport
import Conversion
import ShardPlanning
import TensorFormats

/// The outcome of a conversion, printed at its end.
struct ConversionSummary: Encodable {
  /// `nil` if it was discarded.
  let output: String?
  /// The manifest's root digest; `nil` if there is none.
  let rootDigest: String?
  let sourceBytes: Int
  let outputBytes: Int
  /// The size of all output files, and of the archive of them; `nil` if the output is not an archive.
  let archivedBytes: Int?
  let storedBytes: Int?
  let bitsPerWeight: Double
  let files: Int
  let tensors: Int
  /// The steps of the conversion, and how many of them an earlier run had finished.
  let units: Int
  let resumedUnits: Int
  /// Whether there was nothing left to do.
  let wasComplete: Bool
  let seconds: Double
  let peakMemoryBytes: Int
  /// The tensors with the largest errors.
  let worst: [LargestErrors.Tensor]
  /// The norms stored around zero in one format and around one in the other, if that rounds some of their elements.
  let rounded: [Rounded]
  /// What is not stored as requested, and what is not in the output.
  let notes: PlanNotes
  /// The verdicts of vLLM and SGLang; `nil` for outputs that no engine is meant to load.
  let engines: PlannedEngines?
  /// What was rounded to nearest although calibration was requested; `nil` without calibration.
  let roundedToNearest: [CalibrationFallback]?
  /// The time for choosing the codes, in seconds; `nil` without calibration.
  let calibrationSeconds: GPTQTimes?
  /// What to run next; `nil` if the output was discarded.
  let next: NextSteps?
  /// The size budget that the formats were chosen for; `nil` if they were given.
  let budget: Budget?
  /// How the codes were chosen, if by calibration.
  let calibration: ShardPlan.Calibration?

  struct Budget: Encodable {
    let recipe: String
    let estimatedKL: Double
    let bytes: Int
  }

  struct Rounded: Encodable {
    let tensor: String
    let elements: Int
    /// Whether this conversion rounds them; otherwise whatever wrote the source may have.
    let isCertain: Bool
  }

  init(
    _ outcome: ConversionOutcome, output: String?, source: String, rounded: [(tensor: String, elements: Int)],
    format: Checkpoint.Format, engines: PlannedEngines?, seconds: Double,
    calibrationSeconds: GPTQTimes? = nil
  ) {
    self.engines = engines
    self.rounded = rounded.map {
      Rounded(tensor: $0.tensor, elements: $0.elements, isCertain: format == .gguf)
    }
    self.calibrationSeconds = calibrationSeconds
    roundedToNearest = outcome.manifest.roundedToNearest
    calibration = outcome.manifest.plan.request.calibration
    budget = outcome.manifest.plan.request.budget.map {
      Budget(recipe: outcome.manifest.plan.request.recipe, estimatedKL: $0.estimatedKL, bytes: $0.bytes)
    }
    let manifest = outcome.manifest
    self.output = output
    next = output.map {
      NextSteps(
        output: $0, source: source, plan: outcome.manifest.plan, engines: engines,
        isArchive: outcome.archive?.storedBytes != nil)
    }
    rootDigest = output == nil ? nil : manifest.digest
    notes = PlanNotes(manifest.plan)
    sourceBytes = manifest.plan.sourceBytes
    outputBytes = manifest.plan.outputBytes
    archivedBytes = outcome.archive?.bytes
    storedBytes = outcome.archive?.storedBytes
    bitsPerWeight = manifest.plan.bitsPerWeight
    files = manifest.plan.files.count
    tensors = manifest.tensors.count
    units = outcome.units
    resumedUnits = outcome.reusedUnits
    wasComplete = outcome.wasComplete
    self.seconds = seconds
    peakMemoryBytes = ProcessUsage.peakMemoryBytes
    worst = LargestErrors(manifest).tensors
  }

  func print(json: Bool) throws(CheckpointError) {
    if json {
      return try StandardStream.output.write(json: self, as: .conversion)
    }
    try StandardStream.output.write(sentences: text)
    // Commands are there to be copied, and stay in one line.
    if let next { try StandardStream.output.write(next.text) }
  }

  private var text: String {
    var text =
      "\(output ?? "discarded"): \(tensors) \(tensors == 1 ? "tensor" : "tensors") in \(files) \(files == 1 ? "file" : "files")\n"
    if wasComplete { text += "  was already complete and intact: nothing to do\n" }
    text += "  \(ByteSize(bytes: sourceBytes).decimal) -> \(ByteSize(bytes: outputBytes).decimal), "
    text += "\(NumberText.decimals(bitsPerWeight, 2)) bits per weight\n"
    if let storedBytes, let archivedBytes {
      let share = archivedBytes > 0 ? Double(storedBytes) / Double(archivedBytes) * 100 : 100
      text += "  archived without loss: \(ByteSize(bytes: storedBytes).decimal), "
      text += "\(NumberText.decimals(share, 1)) %\n"
    }
    if resumedUnits > 0 { text += "  resumed: \(resumedUnits) of \(units) units were already done\n" }
    if !wasComplete {
      let rate = seconds > 0 ? Int(Double(sourceBytes) / seconds) : 0
      text += "  \(NumberText.decimals(seconds, 1)) s, \(ByteSize(bytes: rate).decimal)/s, peak memory "
      text += "\(ByteSize(bytes: peakMemoryBytes).binary)\n"
    }
    if let budget {
      text +=
        "  \(budget.recipe.printable): estimated KL divergence \(NumberText.significant(budget.estimatedKL))\n"
    }
    if let calibration {
      text += "  codes by \(calibration.method.rawValue), \(calibration.tokens) tokens"
      if let roundedToNearest {
        let others = roundedToNearest.count { $0.reason == .format }
        text += "; \(roundedToNearest.count - others) matrices rounded to nearest"
        if others > 0 { text += ", \(others) tensors encoded without it" }
      }
      text += "\n"
    }
    if !worst.isEmpty {
      text += "  largest relative errors:\n"
      for tensor in worst { text += "    \(tensor.text)\n" }
    }
    if let first = rounded.first {
      let elements = rounded.reduce(0) { $0 + $1.elements }
      let what =
        first.isCertain
        ? "elements so close to 0 that adding one rounds them: converting back does not restore them exactly"
        : "elements so close to 0 that they may have been rounded when the GGUF was written"
      text += "  \(elements) \(what)\n    in \(rounded.count) norms: \(first.tensor.printable)"
      text += rounded.count > 1 ? ", ...\n" : "\n"
    }
    // The lines that follow are indented like the rest.
    let said = notes.text(width: (StandardStream.output.columns ?? 80) - 2)
    text += said.split(separator: "\n").map { "  \($0)\n" }.joined()
    if let engines {
      text += engines.text.split(separator: "\n").map { "  \($0)\n" }.joined()
    }
    if let rootDigest { text += "  root digest: \(rootDigest)\n" }
    return text
  }
}

extension StageUsage {
  /// `read 0.12, recode 1.40, ...`: how many threads were busy with each stage, on average.
  func describe(seconds: Double) -> String {
    let stages = [
      ("read", read), ("recode", recode), ("write", write), ("hash source", hashSource),
      ("hash output", hashOutput), ("sync", sync),
    ]
    let shares = stages.map { "\($0) \(NumberText.decimals(seconds > 0 ? $1 / seconds : 0, 2))" }
    return "threads busy on average: " + shares.joined(separator: ", ")
  }
}
