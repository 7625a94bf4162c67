/// How patient a remote source is, and how much it does at a time.
public struct RemoteOptions: Sendable {
  /// How many connections are open at a time, at the most, over all files of a directory. Headers of many shards are
  /// fetched over as many; what is read otherwise takes one for each thread that reads.
  public var connections = 32
  /// How often something is tried without getting further. An attempt that brings a mebibyte lets the count begin anew:
  /// a server that keeps sending a little and stalling comes to an end.
  public var attempts = 6
  /// How long a server may send nothing before a request counts as failed.
  public var stallLimit: Duration = .seconds(30)
  /// How long a connection may take to be made, TLS included.
  public var connectLimit: Duration = .seconds(15)
  /// The pause before the second attempt; it doubles from one to the next.
  public var firstDelay: Duration = .seconds(1)
  /// The longest such pause.
  public var longestDelay: Duration = .seconds(8)
  /// The longest pause that a server may ask for. Quotas of Hugging Face's hub begin anew after five minutes.
  public var longestWait: Duration = .seconds(330)
  /// How many redirections one request may take.
  public var redirections = 8
  /// Whether a public server may redirect to an address of this host or of a private network.
  public var allowsPrivateRedirections = false
  /// Whether a server on this host counts as one of the public internet: tests have no other one.
  package var takesEveryOriginForPublic = false
  /// How many bytes of the start of a file are fetched with the first small read there and kept for the next ones:
  /// enough for the whole header of nearly every shard, so that it costs one request.
  public var headByteCount = 256 << 10
  /// How many bytes of all files are kept of what was fetched ahead of small reads.
  public var readAheadByteCount = 64 << 20
  /// How many bytes are passed over, at the most, where a server ignores ranges and sends the whole file.
  public var largestSkip = 4 << 20
  /// The endpoints, the token and the cache.
  public var environment: HubEnvironment

  /// How many bytes count as getting further.
  static let progressByteCount = 1 << 20

  /// The defaults, in a given environment.
  public init(environment: HubEnvironment = .current) {
    self.environment = environment
    if let seconds = environment.downloadTimeout { stallLimit = .seconds(seconds) }
  }
}
