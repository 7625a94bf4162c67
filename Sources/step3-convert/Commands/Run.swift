import ArgumentParser
import Checkpoint
import CommandSupport
import Conversion
import ShardPlanning
import Locations
import TensorFormats

/// `step3-convert run`: executes a stored plan.
struct Run: ToolCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a plan that step3-convert plan --output wrote.",
    discussion: """
      Opens the source, checks that it is the one that was planned for, and converts it: the output and its manifest \
      are the same as from a direct conversion, byte for byte. No decision is made again.

      With --share K/N a run does one of N shares: whole source files, balanced by size. Shares may run at the same \
      time, in any order, on several machines that share a file system. When all are done, a run with --seal reads \
      back what they wrote and completes the output; with both options, the last share to finish seals it.
      """)

  @Argument(help: "The plan. The headers that were written with it must lie beside it.", completion: .file())
  var plan: String

  @Argument(
    help: "The directory to write. It must not exist, unless --resume or --overwrite is given.",
    completion: .directory)
  var output: String

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where the source is now (default: where it was when planned).", valueName: "path"),
    completion: .file())
  var source: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where the plan's importance matrix is now (default: where it was).", valueName: "file"),
    completion: .file())
  var imatrix: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Do only this share of the work, such as 3/16; --seal completes the output.", valueName: "k/n"),
    transform: { text in
      guard let share = ConversionShare(text) else {
        throw ValidationError(
          "is not a share: write K/N with K from 1 to N, and N at most \(ConversionShare.most)")
      }
      return share
    })
  var share: ConversionShare?

  @Flag(
    name: .long,
    help: "Complete an output once all its shares are done; with --share, only if this was the last one.")
  var seal = false

  @OptionGroup var running: RunningOptions

  @OptionGroup var common: CommonOptions

  func validate() throws {
    guard share != nil || seal else { return }
    let option = share != nil ? "--share" : "--seal"
    if running.overwrite {
      throw ValidationError(
        "\(option) cannot be combined with --overwrite: remove the output first, or choose another.")
    }
    if running.keepSource != nil { throw ValidationError("\(option) cannot be combined with --keep-source.") }
    if running.discardOutput { throw ValidationError("\(option) cannot be combined with --discard-output.") }
    if seal, running.dryRun { throw ValidationError("--seal cannot be combined with --dry-run.") }
  }

  func run() async throws {
    let stored = try StoredPlan(reading: plan)
    let location = try location(of: stored)
    let checkpoint = try location.open()
    CommonOptions.warn("step3-convert", checkpoint.warnings)
    var importance: ImportanceFile?
    if let file = imatrix ?? stored.importance { importance = try ImportanceFile(file) }
    let planned = try stored.conversion(of: checkpoint, importance: importance)
    do {
      let run = PlannedRun(
        planned: planned, checkpoint: checkpoint, output: output, running: running, common: common)
      if let share {
        try await run.run(share, sealing: seal)
      } else if seal {
        try await run.seal()
      } else {
        try await run.run()
      }
      if share == nil, !running.dryRun { try location.completeKept() }
    } catch var error as CheckpointError where error.code == .nonFinite {
      if error.remedy?.contains("--allow-nonfinite") == true {
        error.remedy = "plan with --allow-nonfinite to keep such values where the format can hold them"
      }
      throw error
    }
  }

  private func location(of stored: StoredPlan) throws(CheckpointError) -> Location {
    do throws(CheckpointError) {
      return try common.location(source ?? stored.source, keeping: running.keepSource)
    } catch {
      guard error.code == .notFound, source == nil else { throw error }
      var error = error
      error.remedy = "say where the source is now with --source"
      throw error
    }
  }
}
