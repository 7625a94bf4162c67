internal import CFileShims
internal import Checkpoint
internal import Step3Model
internal import Synchronization
internal import TensorFormats

/// Feed-forward networks whose weights are held by other processes, one share each.
///
/// Every rank gets every token: each holds a slice of the shared expert and of the dense layers, which all tokens go
/// through. Partial sums are added here in the order of the ranks, in F32, so that the result does not depend on who
/// answers first. After the first failure nothing more is computed, and all ranks are stopped.
///
/// Memory: a message and one partial sum per rank; a message is at most ``AFDOptions/maximumMessageBytes``, and longer batches are
/// sent in several.
public final class RemoteFeedForward: FeedForward {
  private let ranks: [RemoteRank]
  private let text: Step3Configuration.Text
  private let tokens: WireValues
  private let results: WireValues
  private let maximumMessageBytes: Int
  private let model: ModelDescription
  private let routesInFFN: Bool
  private let observer: (any ForwardObserver)?
  private let state = Mutex(State())

  private struct State {
    var requests: UInt64 = 0
    var weightBytesRead: [UInt64] = []
    var failure: (any Error)?
  }

  /// - Parameter ranks: By rank. All have been welcomed.
  init(
    _ ranks: [RemoteRank], _ configuration: Step3Configuration, _ options: AFDOptions,
    observer: (any ForwardObserver)?
  ) {
    self.ranks = ranks
    text = configuration.text
    model = configuration.family.model
    tokens = WireValues(options.tokens)
    results = WireValues(options.results)
    maximumMessageBytes = min(max(1, options.maximumMessageBytes), Frame.Kind.request.limit)
    routesInFFN = ranks.first?.identity.routesInFFN ?? false
    self.observer = observer
  }

  /// - Throws: The error of a rank, with its part's name; `.inputOutput` if one is gone; `CancellationError`.
  public func output(layer: Int, _ input: Activations, _ routing: Routing?) throws -> Activations {
    try state.withLock { state in
      if let failure = state.failure { throw failure }
      do {
        return try forward(layer, input, routing, &state)
      } catch {
        state.failure = error
        for rank in ranks { rank.stop() }
        throw error
      }
    }
  }

  /// Says goodbye to all ranks; nothing can be computed afterwards.
  func close() {
    // A computation in progress ends with an error when its ranks do.
    let isIdle =
      state.withLockIfAvailable { state in
        let works = state.failure == nil
        state.failure = state.failure ?? CheckpointError(.invalidRequest, "the session was closed")
        return works
      } ?? false
    guard isIdle else { return ranks.forEach { $0.stop() } }
    for rank in ranks { rank.sayGoodbye() }
    for rank in ranks { rank.finish() }
  }

  /// The traffic, and the bytes of weights that each rank read, by rank.
  var traffic: [AFDSession.Traffic] {
    let read = state.withLock(\.weightBytesRead)
    return ranks.enumerated().map { index, rank in
      let (sent, received) = rank.stream.traffic
      return AFDSession.Traffic(
        part: rank.name, bytesSent: sent, bytesReceived: received,
        weightBytesRead: index < read.count ? Int(clamping: read[index]) : 0)
    }
  }
}

// MARK: - One layer

extension RemoteFeedForward {
  private func forward(
    _ layer: Int, _ input: Activations, _ routing: Routing?, _ state: inout State
  ) throws -> Activations {
    let result = Activations(rows: input.rows, columns: input.columns)
    var chosen: [Routing] = []
    // Codes never take more than F32; scales and routing are covered by the 64 bytes.
    let rowBytes = input.columns * 4 + 64 + 8 * text.expertsPerToken
    let height = max(1, maximumMessageBytes / rowBytes)
    var first = 0
    while first < input.rows {
      let rows = first..<min(first + height, input.rows)
      let isAll = rows.count == input.rows
      let replies = try exchange(
        layer, isAll ? input : input.copy(rows: rows), routing.map { isAll ? $0 : $0.rows(rows) }, &state)
      // In the order of the ranks, whoever answered first.
      for reply in replies { result.add(reply.output, toRowsFrom: first) }
      if let routing = try agreedRouting(replies, layer) { chosen.append(routing) }
      first = rows.upperBound
    }
    if routesInFFN, let routing = Routing(joining: chosen) { observer?.note(routing, layer: layer) }
    return result
  }

  /// Sends tokens to all ranks, then waits for all of them.
  private func exchange(
    _ layer: Int, _ input: Activations, _ routing: Routing?, _ state: inout State
  ) throws -> [ForwardReply] {
    state.requests += 1
    let payload = try ForwardRequest.encode(
      number: state.requests, layer: layer, input, routing, as: tokens, results: results)
    // A rank receives a whole request before it computes, so sending to one does not wait for another.
    for rank in ranks { try rank.send(.request, payload) }
    let perToken = routesInFFN && text.isMoE(layer: layer) ? min(text.expertsPerToken, text.expertCount) : 0
    var replies = [ForwardReply?](repeating: nil, count: ranks.count)
    var waiting = Array(ranks.indices)
    while !waiting.isEmpty {
      for index in try ready(of: waiting) {
        let rank = ranks[index]
        let frame = try rank.receive(.reply)
        replies[index] = try rank.named {
          try ForwardReply(
            frame.payload, number: state.requests, rows: input.rows, columns: input.columns, as: results,
            perToken: perToken, of: text.expertCount)
        }
        waiting.removeAll { $0 == index }
      }
    }
    let complete = replies.compactMap { $0 }
    state.weightBytesRead = complete.map(\.weightBytesRead)
    return complete
  }

  /// The ranks that have sent something, or are gone.
  private func ready(of waiting: [Int]) throws -> [Int] {
    let descriptors = waiting.map { ranks[$0].stream.descriptor }
    var flags = [UInt8](repeating: 0, count: waiting.count)
    let start = ContinuousClock.now
    while true {
      try Task.checkCancellation()
      let result = unsafe cfs_wait_any_readable(descriptors, &flags, descriptors.count, 100)
      if result < 0 { throw FrameStream.broken("waiting failed", -result) }
      if result > 0 { return zip(waiting, flags).filter { $0.1 != 0 }.map(\.0) }
      for index in waiting { try ranks[index].named { try ranks[index].stream.checkSilence(since: start) } }
    }
  }

  /// The ranks' choice, if the router is on their side: it must be the same for all.
  private func agreedRouting(_ replies: [ForwardReply], _ layer: Int) throws(CheckpointError) -> Routing? {
    guard let first = replies.first?.routing else { return nil }
    for (rank, reply) in zip(ranks, replies) where reply.routing != first {
      throw CheckpointError(
        .malformed,
        "FFN parts \(ranks[0].name) and \(rank.name) choose different experts for the same tokens",
        tensor: model.published(Step3TensorName(.router, layer: layer)),
        remedy: "the copies of the router differ, or the ranks ran on different processors")
    }
    return first
  }
}

extension Routing {
  /// The choices of some tokens.
  fileprivate func rows(_ rows: Range<Int>) -> Routing {
    let entries = rows.lowerBound * perToken..<rows.upperBound * perToken
    return Routing(
      perToken: perToken, experts: Array(experts[entries]), weights: Array(weights[entries]),
      margins: margins.isEmpty ? [] : Array(margins[rows]))
  }

  /// Concatenates routings; `nil` if there are none.
  fileprivate init?(joining routings: [Routing]) {
    guard let first = routings.first else { return nil }
    self.init(
      perToken: first.perToken, experts: routings.flatMap(\.experts), weights: routings.flatMap(\.weights),
      margins: routings.flatMap(\.margins))
  }
}

extension Activations {
  /// Adds rows to those from `first` on.
  fileprivate func add(_ other: Activations, toRowsFrom first: Int) {
    for row in 0..<other.rows {
      let source = other[row]
      update(first + row) { target in for index in source.indices { target[index] += source[index] } }
    }
  }
}
