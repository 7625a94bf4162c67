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
  /// A single line that is redrawn.
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

  /// The requested upper limit on threads.
  @Option(
    name: .long, help: ArgumentHelp("Use at most this many threads (default: all cores).", valueName: "n"))
  public var threads: Int?

  /// How progress is shown.
  @Option(name: .long, help: "How to show progress on standard error.")
  public var progress: ProgressStyle = .auto

  /// When colour is used.
  @Option(name: .long, help: "When to use colour; NO_COLOR is respected.")
  public var color: ColorUse = .auto

  /// Whether to print more.
  @Flag(name: .shortAndLong, help: "Print more on standard error.")
  public var verbose = false

  /// Timeouts and retries for servers.
  @OptionGroup(title: "Sources on servers") public var servers: ServerOptions

  /// The defaults.
  public init() {}

  /// Refuses thread counts out of range.
  public func validate() throws {
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads must be between 1 and 1024; got \(threads).")
    }
  }

  /// The threads to use: as requested, or one per core.
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

  /// Writes a report to standard output, with bad verdicts in red if colour is on.
  ///
  /// - Throws: As ``StandardStream/write(_:)-(String)``.
  public func write(report text: String) throws(CheckpointError) {
    guard usesColor(on: .output) else { return try StandardStream.output.write(sentences: text) }
    // Wrapped first, because colour codes have no width.
    var painted = StandardStream.output.broken(text)
    for verdict in ["FAILED", "would NOT load", "would load WRONGLY"] {
      painted = painted.split(separator: verdict, omittingEmptySubsequences: false).joined(
        separator: "\u{1B}[31m\(verdict)\u{1B}[0m")
    }
    try StandardStream.output.write(painted)
  }

  /// A reporter for work of `total` bytes, in the requested style.
  public func progressReporter(_ activity: String, total: Int) -> ProgressReporter {
    let style: ProgressStyle =
      switch progress {
      case .auto: StandardStream.error.isTerminal ? .bar : .plain
      default: progress
      }
    return ProgressReporter(activity, total: total, style: style)
  }

  /// Prints a line on standard error with `--verbose`.
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
