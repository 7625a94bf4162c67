internal import Checkpoint
public import ParallelWork
internal import StoredWeights
internal import Step3Model
public import Step3Runtime
public import TensorFormats

/// Compares the logits of a candidate with those of a reference, token by token.
public struct LogitsVerification: Sendable {
  /// What the candidate is compared with.
  public enum Reference: Sendable {
    /// Another checkpoint, run by the same runtime.
    case model(ModelRunner)
    /// Logits computed by another program.
    case file(LogitsFile)
  }

  private let reference: Reference
  private let candidate: ModelRunner
  private let other: ModelRunner?
  private let input: ForwardInput

  /// Prepares a comparison.
  ///
  /// - Parameter other: A second candidate, to be compared with the first.
  /// - Throws: `.invalidRequest` if the vocabularies differ, or a file's logits are for other tokens.
  public init(
    candidate: ModelRunner, other: ModelRunner? = nil, reference: Reference, input: ForwardInput
  ) throws(CheckpointError) {
    self.reference = reference
    self.candidate = candidate
    self.other = other
    self.input = input
    if let other {
      try Self.check(other.model.text.vocabularySize, candidate, other.model.weights.checkpoint.path)
    }
    switch reference {
    case .model(let runner):
      try Self.check(runner.model.text.vocabularySize, candidate, runner.model.weights.checkpoint.path)
    case .file(let file):
      try Self.check(file.vocabulary, candidate, file.path)
      guard file.rows == input.batch.tokens.count, file.tokens.map({ $0 == input.batch.tokens }) ?? true
      else {
        throw CheckpointError(
          .invalidRequest,
          "has logits for \(file.rows) tokens, which are not the \(input.batch.tokens.count) given",
          path: file.path,
          remedy: file.tokens == nil
            ? "give the tokens that the logits were computed for"
            : "leave the tokens out: those in the file are used")
      }
    }
  }

  private static func check(
    _ vocabulary: Int, _ candidate: ModelRunner, _ path: String
  ) throws(CheckpointError) {
    let own = candidate.model.text.vocabularySize
    guard vocabulary == own else {
      throw CheckpointError(
        .invalidRequest, "has a vocabulary of \(vocabulary) tokens, the candidate one of \(own)", path: path)
    }
  }

  /// The approximate bytes of weights that ``run(limits:monitor:each:)`` reads.
  public var byteCount: Int {
    let chunks = candidate.logitChunks(input.batch, sides: sides).count
    return runners.reduce(0) {
      $0 + $1.estimatedBytes(tokens: input.batch.tokens.count, logitChunks: chunks)
    }
  }

  private var runners: [ModelRunner] {
    let candidates = [candidate] + (other.map { [$0] } ?? [])
    return if case .model(let runner) = reference { [runner] + candidates } else { candidates }
  }

  /// How many models' logits are held at a time.
  private var sides: Int { other == nil ? 2 : 3 }

  /// Runs both and compares.
  ///
  /// Each model's weights are read once, one model after the other; logits are computed for as many tokens at a time
  /// as the budget allows.
  ///
  /// - Parameters:
  ///   - perToken: Whether the report has each token's divergence.
  ///   - each: Receives the candidate's logits of each token, in order.
  /// - Throws: What reading and running throw; `CancellationError`.
  public func run(
    limits: LogitsLimits = LogitsLimits(), perToken: Bool = false, monitor: WorkMonitor = WorkMonitor(),
    each: (_ row: Int, _ logits: Span<Float>) throws -> Void = { _, _ in }
  ) throws -> LogitsReport {
    var comparison = LogitsComparison()
    var second = LogitsComparison()
    // The results of earlier models are kept while the others run.
    for runner in runners { try runner.checkMemory(input.batch, extraStreams: runners.count) }
    let (mine, experts) = try normalised(candidate, "candidate", monitor)
    let others = try other.map { try normalised($0, "other candidate", monitor).0 }
    let expected = try Expected(reference) { try normalised($0, "reference", monitor) }
    let next = input.nextTokens
    for tokens in candidate.logitChunks(input.batch, sides: sides) {
      let logits = try candidate.model.logits(mine.copy(rows: tokens))
      let theirs = try others.map { try other?.model.logits($0.copy(rows: tokens)) } ?? nil
      try expected.rows(tokens) { token, row in
        try comparison.add(
          reference: row, candidate: logits[token - tokens.lowerBound], next: next[token])
        if let theirs {
          try second.add(reference: row, candidate: theirs[token - tokens.lowerBound], next: next[token])
        }
        try each(token, logits[token - tokens.lowerBound])
      }
      for runner in runners { monitor.advance(runner.bytesPerLogitChunk) }
    }
    let sequences = input.batch.ranges
    var report = comparison.report(
      limits: limits, expertAgreement: expected.choices?.agreement(of: experts) ?? [],
      sequences: sequences)
    if perToken { report.kl.perToken = comparison.perToken }
    if other != nil { report.compared = comparison.difference(of: second, sequences: sequences) }
    return report
  }

  /// The source of the reference logits.
  private enum Expected {
    case model(ModelRunner, Activations, RoutingRecorder)
    case file(LogitsFile)

    init(
      _ reference: Reference, normalised: (ModelRunner) throws -> (Activations, RoutingRecorder)
    ) throws {
      switch reference {
      case .file(let file): self = .file(file)
      case .model(let runner):
        let (stream, choices) = try normalised(runner)
        self = .model(runner, stream, choices)
      }
    }

    var choices: RoutingRecorder? { if case .model(_, _, let choices) = self { choices } else { nil } }

    /// Calls `body` with the logits of some tokens, in order.
    func rows(_ tokens: Range<Int>, _ body: (Int, Span<Float>) throws -> Void) throws {
      switch self {
      case .model(let runner, let stream, _):
        let logits = try runner.model.logits(stream.copy(rows: tokens))
        for token in tokens { try body(token, logits[token - tokens.lowerBound]) }
      case .file(let file):
        var row = [Float](repeating: 0, count: file.vocabulary)
        for token in tokens {
          do {
            var span = row.mutableSpan
            try file.read(token, into: &span)
          }
          try body(token, row.span)
        }
      }
    }
  }

  private func normalised(
    _ runner: ModelRunner, _ side: String, _ monitor: WorkMonitor
  ) throws -> (Activations, RoutingRecorder) {
    let recorder = RoutingRecorder()
    let watched = try runner.observed(by: recorder)
    let result = try watched.run(input.batch, embedded: input.embedded(in: watched)) { progress in
      guard case .layer(let layer, let count, let bytes) = progress else { return }
      monitor.item("\(side), layer \(layer + 1) of \(count)")
      monitor.advance(bytes)
    }
    return (result, recorder)
  }
}

extension ForwardInput {
  /// The token that follows each one in its prompt.
  var nextTokens: [Int?] {
    var next = [Int?](repeating: nil, count: batch.tokens.count)
    for range in batch.ranges {
      for token in range.dropLast() { next[token] = batch.tokens[token + 1] }
    }
    return next
  }
}
