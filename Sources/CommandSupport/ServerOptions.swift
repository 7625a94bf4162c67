public import ArgumentParser
public import Locations
internal import RemoteFiles
public import TensorFormats

/// Timeouts and retries for sources that are on servers.
public struct ServerOptions: ParsableArguments, Sendable {
  /// How long a server may send nothing, in seconds.
  @Option(
    name: .customLong("stall-limit"),
    help: ArgumentHelp(
      "How long a server may send nothing before a request is tried again (default: 30, or HF_HUB_DOWNLOAD_TIMEOUT).",
      valueName: "seconds"))
  public var stallLimit: Int?

  /// How often a request is tried.
  @Option(
    name: .customLong("server-attempts"),
    help: ArgumentHelp(
      "How often a request is tried without progress before it is an error (default: 6).",
      valueName: "n"))
  public var attempts: Int?

  /// Whether redirections may lead to private addresses.
  @Flag(
    name: .customLong("allow-private-redirects"),
    help: "Follow a public server's redirections to addresses of this host or of a private network.")
  public var allowsPrivateRedirections = false

  /// The defaults.
  public init() {}

  /// Refuses values out of range.
  public func validate() throws {
    if let stallLimit, !(1...3600).contains(stallLimit) {
      throw ValidationError("--stall-limit must be from 1 to 3600 seconds; got \(stallLimit).")
    }
    if let attempts, !(1...100).contains(attempts) {
      throw ValidationError("--server-attempts must be from 1 to 100; got \(attempts).")
    }
  }

  var options: RemoteOptions {
    var options = RemoteOptions()
    if let stallLimit { options.stallLimit = .seconds(stallLimit) }
    if let attempts { options.attempts = attempts }
    options.allowsPrivateRedirections = allowsPrivateRedirections
    return options
  }
}

extension CommonOptions {
  /// The location that a user names as a source.
  ///
  /// - Parameter cache: Where to keep what is fetched from a hub; `nil` to keep nothing.
  /// - Throws: As ``Locations/Location/init(_:keeping:remote:)``.
  public func location(_ argument: String, keeping cache: String? = nil) throws(CheckpointError) -> Location {
    try Location(argument, keeping: cache, remote: servers.options)
  }
}
