import ArgumentParser
import Checkpoint
import CommandSupport
import Conversion
import ShardPlanning
import TensorFormats

/// `step3-convert run`: a stored plan, run without planning again.
struct Run: ToolCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run a plan that step3-convert plan --output wrote.",
    discussion: """
      Opens the source, checks that it is the one that was planned for, and converts it: the output and its manifest \
      are those of the direct conversion, byte for byte. Nothing is decided again.
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
      "Where the source is now (default: where it was when it was planned for).", valueName: "path"),
    completion: .file())
  var source: String?

  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where the plan's importance matrix is now (default: where it was).", valueName: "file"),
    completion: .file())
  var imatrix: String?

  @OptionGroup var running: RunningOptions

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let stored = try StoredPlan(reading: plan)
    let checkpoint = try open(stored)
    CommonOptions.warn("step3-convert", checkpoint.warnings)
    var importance: ImportanceFile?
    if let file = imatrix ?? stored.importance { importance = try ImportanceFile(file) }
    let planned = try stored.conversion(of: checkpoint, importance: importance)
    do {
      try await PlannedRun(
        planned: planned, checkpoint: checkpoint, output: output, running: running, common: common
      ).run()
    } catch var error as CheckpointError where error.code == .nonFinite {
      if error.remedy?.contains("--allow-nonfinite") == true {
        error.remedy = "plan with --allow-nonfinite to pass such values on where the format can hold them"
      }
      throw error
    }
  }

  private func open(_ stored: StoredPlan) throws(CheckpointError) -> Checkpoint {
    do throws(CheckpointError) {
      return try Checkpoint.open(source ?? stored.source)
    } catch {
      guard error.code == .notFound, source == nil else { throw error }
      var error = error
      error.remedy = "name the place where the source is now with --source"
      throw error
    }
  }
}
