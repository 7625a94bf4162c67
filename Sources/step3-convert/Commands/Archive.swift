import Archives
import Archiving
import ArgumentParser
import CommandSupport
import ParallelWork
import TensorFormats

/// `step3-convert archive`: compress a directory without loss.
struct Archive: ToolCommand {
  static let configuration = CommandConfiguration(
    abstract: "Compress a checkpoint directory without loss.",
    discussion: """
      Each .safetensors and .gguf file becomes NAME.zst, about two thirds of its size for BF16; every other file is \
      kept as it is. archive.json, written last, has the SHA-256 of every original, by which step3-convert restore \
      proves that it brings back the very bytes.

      The archive's files are zstd's seekable format, so that any part can be read without the rest.

      Examples:
        step3-convert archive step3 step3-archive
        step3-convert archive ~/.cache/huggingface/hub/models--a--b/snapshots/4f2c... b-archive --threads 8
      """)

  @Argument(help: "The directory to archive.", completion: .directory)
  var source: String

  @Argument(
    help: "The directory to write. It must not exist, unless --resume is given.", completion: .directory)
  var output: String

  @OptionGroup var archiving: ArchivingArguments

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let archiver = try Archiver(source, options: archiving.options(common))
    let output = output
    let start = ContinuousClock.now
    let outcome = try await archiving.running("archiving", total: archiver.bytes, common) { monitor in
      try await archiver.run(into: output, monitor: monitor) { CommonOptions.warn("step3-convert", [$0]) }
    }
    let summary = ArchiveSummary(
      output: output, files: outcome.manifest.files.count, bytes: outcome.manifest.bytes,
      storedBytes: outcome.manifest.storedBytes, reusedFiles: outcome.reusedFiles,
      wasComplete: outcome.wasComplete,
      methods: ArchiveSummary.methods(outcome.manifest), seconds: (ContinuousClock.now - start) / .seconds(1),
      peakMemoryBytes: ProcessUsage.peakMemoryBytes)
    if common.json { return try StandardStream.output.write(json: summary, as: .archive) }
    try common.write(report: summary.text)
  }
}

/// `step3-convert restore`: restores the directory from an archive.
struct Restore: ToolCommand {
  static let configuration = CommandConfiguration(
    abstract: "Restore the directory that an archive was made from.",
    discussion: """
      Every file is compared with the SHA-256 of the original before it is renamed into place. With --check \
      nothing is written: every file is decompressed and compared, and the exit code is 1 if any could not be \
      restored.

      Examples:
        step3-convert restore step3-archive step3
        step3-convert restore step3-archive --check
      """)

  @Argument(help: "The directory that step3-convert archive wrote.", completion: .directory)
  var archive: String

  @Argument(
    help: "The directory to write. It must not exist, unless --resume is given.", completion: .directory)
  var output: String?

  @Flag(name: .long, help: "Write nothing, but check that everything can be restored.")
  var check = false

  @OptionGroup var archiving: ArchivingArguments

  @OptionGroup var common: CommonOptions

  func validate() throws {
    if check, output != nil || archiving.resume {
      throw ValidationError("--check writes nothing: it takes no OUTPUT and no --resume.")
    }
    if !check, output == nil { throw ValidationError("Name the directory to write, or give --check.") }
  }

  func run() async throws {
    let restorer = try Restorer(archive, options: archiving.options(common))
    let manifest = restorer.manifest
    let output = output
    let start = ContinuousClock.now
    let findings = try await archiving.running(
      check ? "checking" : "restoring", total: manifest.bytes, common
    ) { monitor in
      guard let output else { return try await restorer.check(monitor: monitor) }
      try await restorer.run(into: output, monitor: monitor)
      return []
    }
    let summary = RestoreSummary(
      output: output, files: manifest.files.count, bytes: manifest.bytes, storedBytes: manifest.storedBytes,
      ok: findings.isEmpty, findings: findings.map { .init(path: $0.path, error: "\($0.error)") },
      seconds: (ContinuousClock.now - start) / .seconds(1), peakMemoryBytes: ProcessUsage.peakMemoryBytes)
    if common.json {
      try StandardStream.output.write(json: summary, as: .restore)
    } else {
      try common.write(report: summary.text)
    }
    if !findings.isEmpty { throw CommandLineTool.end(.checkFailed) }
  }
}

/// The resources that a run of either may use.
struct ArchivingArguments: ParsableArguments {
  @Option(name: .long, help: ArgumentHelp("The memory for buffers.", valueName: "size"))
  var memory = ByteSize(bytes: 1 << 30)

  @Flag(name: .long, help: "Resume an interrupted run, or start one.")
  var resume = false

  func validate() throws {
    guard memory.bytes >= ArchivingOptions.minimumMemory else {
      throw ValidationError(
        "--memory must be at least \(ByteSize(bytes: ArchivingOptions.minimumMemory).binary); got \(memory.binary)."
      )
    }
  }

  func options(_ common: CommonOptions) -> ArchivingOptions {
    ArchivingOptions(threads: common.threadCount, memory: memory.bytes, resume: resume)
  }

  /// Runs `body`, showing its progress, until it is done or the user interrupts it.
  func running<Result: Sendable>(
    _ activity: String, total: Int, _ common: CommonOptions,
    _ body: @escaping @Sendable (WorkMonitor) async throws -> Result
  ) async throws -> Result {
    let progress = common.progressReporter(activity, total: total)
    defer { progress.finish() }
    let monitor = WorkMonitor(advance: { progress.advance(by: $0) }, item: { progress.setItem($0) })
    do {
      let saysMore = activity != "checking" && !common.json
      return try await Interruption.cancelling(
        saying: saysMore ? "step3-convert: warning: \(Interruption.canGoOn)" : nil
      ) { try await body(monitor) }
    } catch let error as CancellationError {
      progress.finish()
      if activity != "checking", !common.json {
        CommonOptions.warn(
          "step3-convert", [Interruption.canGoOn])
      }
      throw error
    }
  }
}
