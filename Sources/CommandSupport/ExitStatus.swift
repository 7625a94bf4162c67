public import TensorFormats

/// What the tools' exit codes mean. The numbers from 64 on are those of `sysexits.h`.
public enum ExitStatus: Int32, Hashable, Sendable, CaseIterable {
  /// Done, and every check passed.
  case success = 0
  /// A check ran and failed.
  case checkFailed = 1
  /// The command line is invalid.
  case usage = 64
  /// The input is malformed or unsupported.
  case badData = 65
  /// The input does not exist or may not be read.
  case noInput = 66
  /// A bug in the tool.
  case internalError = 70
  /// The output already exists or cannot be created.
  case cannotCreate = 73
  /// Reading or writing failed after it had begun.
  case inputOutput = 74
  /// The user interrupted the work.
  case interrupted = 130

  /// The exit code of an error.
  public init(_ error: CheckpointError) {
    self =
      switch error.code {
      case .notFound: .noInput
      case .cannotCreate, .busy: .cannotCreate
      case .inputOutput: .inputOutput
      // Another process that does not answer.
      case CheckpointError.Code(rawValue: "unresponsive"): .inputOutput
      case .invalidRequest: .usage
      // A category that a later format adds is about its data.
      default: .badData
      }
  }
}
