/// Timeouts, retries and concurrency of a remote source.
public struct RemoteOptions: Sendable {
  /// The maximum number of open connections for all files of a directory. Headers of many shards use all of them;
  /// other reads use one per reading thread.
  public var connections = 32
  /// The maximum number of attempts without progress. An attempt that transfers a mebibyte resets the count, so that a
  /// server that keeps stalling after a few bytes is given up eventually.
  public var attempts = 6
  /// How long a server may send nothing before a request is considered failed.
  public var stallLimit: Duration = .seconds(30)
  /// The connection timeout, including TLS.
  public var connectLimit: Duration = .seconds(15)
  /// The pause before the second attempt; it doubles each time.
  public var firstDelay: Duration = .seconds(1)
  /// The longest such pause.
  public var longestDelay: Duration = .seconds(8)
  /// The longest pause that a server may ask for. Quotas of the Hugging Face hub reset after five minutes.
  public var longestWait: Duration = .seconds(330)
  /// The maximum number of redirections of one request.
  public var redirections = 8
  /// Whether a public server may redirect to an address of this host or of a private network.
  public var allowsPrivateRedirections = false
  /// Whether a server on this host counts as public, for tests.
  package var takesEveryOriginForPublic = false
  /// The number of bytes fetched from the start of a file with the first small read there, and cached: enough for
  /// the complete header of nearly every shard, so that it takes one request.
  public var headByteCount = 256 << 10
  /// The size of the read-ahead cache, over all files.
  public var readAheadByteCount = 64 << 20
  /// The maximum number of bytes skipped if a server ignores ranges and sends the whole file.
  public var largestSkip = 4 << 20
  /// The endpoints, the token and the cache.
  public var environment: HubEnvironment

  /// The number of bytes that count as progress.
  static let progressByteCount = 1 << 20

  /// Creates the defaults for a given environment.
  public init(environment: HubEnvironment = .current) {
    self.environment = environment
    if let seconds = environment.downloadTimeout { stallLimit = .seconds(seconds) }
  }
}
