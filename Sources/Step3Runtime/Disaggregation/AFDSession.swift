internal import Checkpoint
public import StoredWeights
internal import Step3Model
public import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// How a partition set is run.
public struct AFDOptions: Sendable {
  /// How tokens are sent to the FFN ranks.
  public var tokens: TokenWireFormat = .f32
  /// How partial sums are sent back.
  public var results: ResultWireFormat = .f32
  /// Threads of the attention side.
  public var threads: Int
  /// Threads of each FFN rank; `nil` for an equal share of the processors, because all ranks compute at the same time.
  public var threadsPerWorker: Int?
  /// The largest message, in bytes; a longer batch is sent in several. Each process holds a message, its decoded tokens
  /// and their partial sums, and the attention side a partial sum per rank, in addition to the tiles of weights that it
  /// multiplies.
  public var maximumMessageBytes = 256 << 20
  /// How long a rank may be silent while a reply is due; `nil` for no limit.
  public var silence: Duration? = .seconds(600)
  /// The program that runs ``FFNWorker``; `nil` for the current one.
  public var workerExecutable: String?
  /// Its arguments before `--part` and `--threads`.
  public var workerArguments = [FFNWorker.subcommand]

  /// Connects to the server of an FFN part instead of starting a process, for ranks that are already running here or on
  /// another machine (``FFNServer``). It receives the part's directory and returns a connected stream socket, which the
  /// session takes over.
  public var connect: (@Sendable (_ part: String) throws -> Int32)?

  /// Everything in F32.
  public init(threads: Int = AFDOptions.processors) { self.threads = threads }

  /// The processors of this machine.
  public static var processors: Int { max(1, Int(sysconf(CInt(_SC_NPROCESSORS_ONLN)))) }
}

/// A partition set, run as it would be served: this process opens the attention parts, and for each FFN part a process
/// is started that opens only that part. They communicate over connected, unnamed sockets.
///
/// The processes end with ``close()``, with the session, when one of them fails, and when this process ends for any
/// reason. Keep the session as long as its model is used.
public final class AFDSession: Sendable {
  /// The model, to be run like one in a single process.
  public let model: TextModel
  /// The directories of the attention parts, which are opened in this process.
  public let attentionParts: [String]
  /// The FFN ranks in order.
  public let ranks: [Rank]
  /// The directory of the vision part; `nil` without one.
  public let visionPart: String?
  private let remote: RemoteFeedForward

  /// One FFN rank.
  public struct Rank: Hashable, Sendable {
    /// The part's directory.
    public let part: String
    /// The process id; `nil` for a process that was not started here.
    public let process: Int32?
  }

  /// The traffic between attention and one rank.
  public struct Traffic: Hashable, Sendable {
    /// The part's directory.
    public let part: String
    /// Bytes from attention to the rank.
    public let bytesSent: Int
    /// Bytes from the rank to attention.
    public let bytesReceived: Int
    /// Bytes of weights that the rank read.
    public let weightBytesRead: Int
  }

  private init(
    _ set: PartitionSet, model: TextModel, remote: RemoteFeedForward, ranks: [Rank]
  ) {
    self.model = model
    self.remote = remote
    self.ranks = ranks
    attentionParts = set.attention.map(\.name)
    visionPart = set.vision?.name
    visionPath = set.vision?.path
  }

  private let visionPath: String?

  deinit { close() }

  /// Ends all processes and waits until they are gone. The model cannot compute any more. May be called more than once.
  public func close() { remote.close() }

  /// The traffic on each connection, by rank.
  public var traffic: [Traffic] { remote.traffic }

  /// The weights of the vision part, which belongs to prefill and to neither side of AFD: the process that feeds
  /// pictures opens it.
  ///
  /// - Returns: `nil` for a model without one.
  /// - Throws: What opening throws.
  public func visionWeights() throws(CheckpointError) -> ModelWeights? {
    guard let visionPath else { return nil }
    return try ModelWeights(Checkpoint.open(visionPath))
  }
}

// MARK: - Starting

extension AFDSession {
  /// Opens the attention parts, starts a process for each FFN part, and checks that together they make up the model.
  ///
  /// - Parameters:
  ///   - path: The partition set.
  ///   - options: Threads, memory, and what travels between the sides.
  ///   - observer: Sees what each layer makes; `nil` for none.
  /// - Throws: `.invalidRequest` if it is not one; `.notFound` for a part or a weight that is missing; `.malformed`
  ///   for a part that appears twice, is not the expected one, or overlaps another one; the error of a worker, with
  ///   its part's name; `CancellationError`. No process is left running.
  public static func start(
    _ path: String, options: AFDOptions = AFDOptions(), observer: (any ForwardObserver)? = nil
  ) throws -> AFDSession {
    let set = try PartitionSet(path)
    let weights = try ModelWeights(Checkpoint.open(path, parts: set.attention.map(\.name)))
    guard let configuration = weights.configuration else {
      throw CheckpointError(
        .unsupported, "this is not a model of the Step family, and only those can be run", path: path)
    }
    try checkAttention(weights, configuration, routesHere: !set.routesInFFN)
    var ranks: [RemoteRank] = []
    for part in set.ffn { ranks.append(try reach(part, of: set, options)) }
    do {
      try greet(ranks, configuration)
    } catch {
      for rank in ranks { rank.stop() }
      throw error
    }
    let remote = RemoteFeedForward(ranks, configuration, options, observer: observer)
    let model = try TextModel(
      weights, products: Products(threads: options.threads), feedForward: remote,
      routesHere: !set.routesInFFN,
      observer: observer)
    return AFDSession(
      set, model: model, remote: remote,
      ranks: ranks.map { Rank(part: $0.name, process: $0.process?.id) })
  }

  /// Makes the connection to a rank.
  private static func reach(
    _ part: PartitionSet.Part, of set: PartitionSet, _ options: AFDOptions
  ) throws -> RemoteRank {
    if let connect = options.connect {
      let stream = FrameStream(owning: try connect(part.path), silence: options.silence)
      return RemoteRank(name: part.name, identity: part.identity, stream: stream, process: nil)
    }
    let (own, other) = try FrameStream.pair(silence: options.silence)
    let threads = options.threadsPerWorker ?? max(1, AFDOptions.processors / set.ffn.count)
    // Our copy of the worker's end is closed only once the worker has its own.
    let process = try withExtendedLifetime(other) {
      try WorkerProcess(
        options.workerExecutable ?? WorkerProcess.ownExecutable(),
        options.workerArguments + ["--part=\(part.path)", "--threads=\(threads)"], input: other.descriptor)
    }
    return RemoteRank(name: part.name, identity: part.identity, stream: own, process: process)
  }

  /// Receives what all ranks hold, and lets them start if together they are the model.
  static func greet(_ ranks: [RemoteRank], _ configuration: Step3Configuration) throws {
    let text = configuration.text
    var described: [PartitionCheck.Rank] = []
    for rank in ranks {
      let hello = try rank.named { try rank.receive(.hello).decoded(PartHello.self) }
      described.append(PartitionCheck.Rank(name: rank.name, expected: rank.identity, hello: hello))
    }
    try PartitionCheck(text: text, model: configuration.family.model).check(described)
    for rank in ranks {
      let welcome = Welcome(dimensions: ModelDimensions(text), identity: rank.identity)
      try rank.send(.welcome, Frame.encoded(welcome))
    }
  }

  /// Refuses an incomplete attention side before the first layer is run.
  private static func checkAttention(
    _ weights: ModelWeights, _ configuration: Step3Configuration, routesHere: Bool
  ) throws(CheckpointError) {
    var needed = [Step3TensorName(.tokenEmbedding), Step3TensorName(.outputNorm)]
    let rows = configuration.family.model.modules.filter {
      $0.scope == .textLayer && $0.side == .attention && ($0.role != .router || routesHere)
    }
    for layer in 0..<configuration.text.layerCount {
      for row in rows where row.shape(configuration, layer: layer) != nil {
        needed.append(Step3TensorName(row.module, layer: layer, suffix: row.tensors[0].suffix))
      }
    }
    for name in needed {
      guard let weight = weights[name] else {
        throw CheckpointError(
          .notFound, "is in no attention part", path: weights.checkpoint.path, tensor: weights.spelled(name))
      }
      guard weight.isComplete else {
        throw CheckpointError(
          .malformed, "the attention parts together do not hold all of it", path: weights.checkpoint.path,
          tensor: weights.spelled(name))
      }
    }
  }
}
