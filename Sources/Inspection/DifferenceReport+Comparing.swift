public import Checkpoint
internal import Comparison
internal import StoredWeights
public import ParallelWork
public import TensorFormats

extension DifferenceReport {
  /// What is compared, and how strictly.
  public struct Request: Sendable {
    /// Whether tensors with equal values but different types or bytes count as different.
    public var exact = false
    /// Whether to compare only names, types and shapes, without reading weights.
    public var headersOnly = false
    /// Which weights are compared, by their published name or by the stored name of either side; `nil` for all. It
    /// throws if a pattern takes too long.
    public var matches: (@Sendable (String) throws(CheckpointError) -> Bool)?
    /// The order of the pairs.
    public var order = Order.stored

    /// Everything, by default.
    public init(
      exact: Bool = false, headersOnly: Bool = false,
      matches: (@Sendable (String) throws(CheckpointError) -> Bool)? = nil, order: Order = .stored
    ) {
      self.exact = exact
      self.headersOnly = headersOnly
      self.matches = matches
      self.order = order
    }
  }

  /// Compares two checkpoints, tensor by tensor, reading both once; tensors that differ only in some ranges, twice.
  ///
  /// - Throws: As ``Preparation`` and ``Preparation/report(threads:monitor:)``.
  public init(
    _ a: Checkpoint, _ b: Checkpoint, request: Request = Request(), threads: Int,
    monitor: WorkMonitor = WorkMonitor()
  ) async throws {
    self = try await Preparation(a, b, request: request).report(threads: threads, monitor: monitor)
  }

  /// The matched weights of two checkpoints; no weights are read yet.
  public struct Preparation: Sendable {
    private let request: Request
    private let weightsA: ModelWeights
    private let weightsB: ModelWeights
    private let matches: [WeightPairing.Match]
    private let comparisons: [ElementComparison]

    /// Pairs the selected weights.
    ///
    /// - Throws: `.invalidRequest` if no weight of either is selected; errors in how weights are stored.
    public init(_ a: Checkpoint, _ b: Checkpoint, request: Request = Request()) throws(CheckpointError) {
      let weightsA = try ModelWeights(a, unread: .asStored)
      let weightsB = try ModelWeights(b, unread: .asStored)
      let matches = try WeightPairing([.init(weightsA)], weightsB, with: .pieces) {
        (name) throws(CheckpointError) in
        guard let matches = request.matches else { return true }
        if try matches(name) { return true }
        for stored in [weightsA[name]?.nameOnDisk, weightsB[name]?.nameOnDisk] {
          if let stored, stored != name, try matches(stored) { return true }
        }
        return false
      }.matches
      guard request.matches == nil || !matches.isEmpty else {
        throw CheckpointError(
          .invalidRequest, "no tensor of either checkpoint matches", path: a.path,
          remedy: "step3-inspect list shows the names")
      }
      self.request = request
      self.weightsA = weightsA
      self.weightsB = weightsB
      self.matches = matches
      comparisons = request.headersOnly ? [] : matches.flatMap { $0.pairs.map { ElementComparison($0) } }
    }

    /// The approximate bytes that will be read.
    public var byteCount: Int {
      comparisons.reduce(0) { $0 + $1.byteCount(of: 0..<$1.cut.count) }
    }

    /// Reads and compares.
    ///
    /// - Throws: `CheckpointError` if a file cannot be read, `CancellationError`.
    public func report(threads: Int, monitor: WorkMonitor = WorkMonitor()) async throws -> DifferenceReport {
      let differences = try await comparisons.differences(threads: threads, monitor: monitor)
      var compared = zip(comparisons, differences).makeIterator()
      return DifferenceReport(request, weightsA, weightsB, matches) { pair in
        compared.next().map { Pair($0, $1) } ?? Pair(headersOf: pair)
      }
    }
  }

  private init(
    _ request: Request, _ weightsA: ModelWeights, _ weightsB: ModelWeights, _ matches: [WeightPairing.Match],
    outcome: (WeightPair) -> Pair
  ) {
    var summary = Summary(headersOnly: request.headersOnly)
    var pairs: [Pair] = []
    for match in matches {
      for pair in match.pairs.map(outcome) + [Pair(shapesOf: match, weightsA, weightsB)].compactMap(\.self) {
        summary.count(pair.outcome)
        if pair.outcome != .identical, pair.outcome != .sameHeader { pairs.append(pair) }
      }
    }
    pathA = weightsA.checkpoint.path
    pathB = weightsB.checkpoint.path
    headersOnly = request.headersOnly
    onlyInA = matches.compactMap { $0.b == nil ? $0.a?.nameOnDisk : nil }
    onlyInB = matches.compactMap { $0.a == nil ? $0.b?.nameOnDisk : nil }
    incomplete = matches.compactMap { Incomplete($0) }
    self.summary = summary
    self.pairs = request.order == .worst ? Self.worstFirst(pairs) : pairs
    equal =
      onlyInA.isEmpty && onlyInB.isEmpty && incomplete.isEmpty && summary.different == 0 && summary.shape == 0
      && summary.notCompared == 0 && summary.otherType == 0 && (!request.exact || summary.sameValues == 0)
  }

  private static func worstFirst(_ pairs: [Pair]) -> [Pair] {
    func rank(_ pair: Pair) -> (Int, Double) {
      switch pair.outcome {
      case .shape: (0, 0)
      case .notCompared: (1, 0)
      case .different where (pair.errors?.nonFinite ?? 0) > 0: (2, 0)
      // Of tensors compared only as bytes, nothing is known but that they differ.
      case .different: (3, -(pair.errors.map { $0.relative ?? .infinity } ?? .infinity))
      case .otherType, .sameValues: (4, 0)
      case .identical, .sameHeader: (5, 0)
      }
    }
    let ranked = pairs.enumerated().map { (key: (rank($1), $0), pair: $1) }
    return ranked.sorted { a, b in
      a.key.0 != b.key.0 ? a.key.0 < b.key.0 : a.key.1 < b.key.1
    }.map(\.pair)
  }
}
