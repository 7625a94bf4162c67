public import ArgumentParser
public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// How progress is shown.
public enum ProgressStyle: String, Sendable, CaseIterable, ExpressibleByArgument {
  /// A bar on a terminal, plain lines where standard error goes elsewhere.
  case auto
  /// A line that is drawn over and over.
  case bar
  /// A new line every few seconds.
  case plain
  /// One JSON object per line.
  case json
  /// Nothing.
  case none
}

/// When colour is used.
public enum ColorUse: String, Sendable, CaseIterable, ExpressibleByArgument {
  /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
  case auto
  case always
  case never
}

/// The options of every subcommand.
public struct CommonOptions: ParsableArguments, Sendable {
  /// One JSON document on standard output instead of text.
  @Flag(name: .long, help: "Print one JSON document on standard output and nothing else there.")
  public var json = false

  /// The upper limit of threads that was asked for.
  @Option(
    name: .long, help: ArgumentHelp("Use at most this many threads (default: all cores).", valueName: "n"))
  public var threads: Int?

  /// How progress is shown.
  @Option(name: .long, help: "How to show progress on standard error.")
  public var progress: ProgressStyle = .auto

  /// When colour is used.
  @Option(name: .long, help: "When to use colour; NO_COLOR is respected.")
  public var color: ColorUse = .auto

  /// Whether to say more.
  @Flag(name: .shortAndLong, help: "Say more on standard error.")
  public var verbose = false

  /// How patient to be with servers.
  @OptionGroup(title: "Sources on servers") public var servers: ServerOptions

  /// Nothing given.
  public init() {}

  /// Refuses thread counts that make no sense.
  public func validate() throws {
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads must be between 1 and 1024; got \(threads).")
    }
  }

  /// The threads to use: what was asked for, or one per core.
  public var threadCount: Int { threads ?? max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

  /// Whether text on `stream` may be coloured.
  public func usesColor(on stream: StandardStream) -> Bool {
    switch color {
    case .always: true
    case .never: false
    case .auto:
      stream.isTerminal && (environment("NO_COLOR") ?? "").isEmpty && environment("TERM") != "dumb"
    }
  }

  /// Writes a report to standard output, its bad verdicts in red where colour is wanted.
  ///
  /// - Throws: As ``StandardStream/write(_:)-(String)``.
  public func write(report text: String) throws(CheckpointError) {
    guard usesColor(on: .output) else { return try StandardStream.output.write(sentences: text) }
    // Broken first, because colour has no width.
    var painted = StandardStream.output.broken(text)
    for verdict in ["FAILED", "would NOT load", "would load WRONGLY"] {
      painted = painted.split(separator: verdict, omittingEmptySubsequences: false).joined(
        separator: "\u{1B}[31m\(verdict)\u{1B}[0m")
    }
    try StandardStream.output.write(painted)
  }

  /// A reporter for work of `total` bytes that shows itself as asked for.
  public func progressReporter(_ activity: String, total: Int) -> ProgressReporter {
    let style: ProgressStyle =
      switch progress {
      case .auto: StandardStream.error.isTerminal ? .bar : .plain
      default: progress
      }
    return ProgressReporter(activity, total: total, style: style)
  }

  /// Prints a line on standard error if the user wants to know more.
  public func note(_ tool: String, _ line: @autoclosure () -> String) {
    guard verbose else { return }
    try? StandardStream.error.write(message: "\(tool): \(line())")
  }

  /// Prints warnings on standard error.
  public static func warn(_ tool: String, _ warnings: some Sequence<String>) {
    for warning in warnings {
      try? StandardStream.error.write(message: "\(tool): warning: \(warning)")
    }
  }
}
