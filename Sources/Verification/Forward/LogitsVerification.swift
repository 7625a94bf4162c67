internal import Checkpoint
public import ParallelWork
internal import StoredWeights
internal import Step3Model
public import Step3Runtime
public import TensorFormats

/// Compares the logits of a candidate with those of a reference, token by token.
public struct LogitsVerification: Sendable {
  /// What the candidate is held against.
  public enum Reference: Sendable {
    /// Another checkpoint, run by the same runtime.
    case model(ModelRunner)
    /// Logits that another program computed.
    case file(LogitsFile)
  }

  private let reference: Reference
  private let candidate: ModelRunner
  private let input: ForwardInput

  /// Prepares a comparison.
  ///
  /// - Throws: `.invalidRequest` if the vocabularies differ, or a file's logits are of other tokens.
  public init(
    candidate: ModelRunner, reference: Reference, input: ForwardInput
  ) throws(CheckpointError) {
    self.reference = reference
    self.candidate = candidate
    self.input = input
    switch reference {
    case .model(let runner):
      try Self.check(runner.model.text.vocabularySize, candidate, runner.model.weights.checkpoint.path)
    case .file(let file):
      try Self.check(file.vocabulary, candidate, file.path)
      guard file.rows == input.batch.tokens.count, file.tokens.map({ $0 == input.batch.tokens }) ?? true
      else {
        throw CheckpointError(
          .invalidRequest,
          "has logits of \(file.rows) tokens, and they are not the \(input.batch.tokens.count) given",
          path: file.path,
          remedy: file.tokens == nil
            ? "give the tokens that were fed when the logits were computed"
            : "leave the tokens out: those in the file are taken")
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

  /// The bytes of weights that ``run(limits:monitor:each:)`` reads, about.
  public var byteCount: Int {
    let chunks = candidate.logitChunks(input.batch, sides: 2).count
    return runners.reduce(0) {
      $0 + $1.estimatedBytes(tokens: input.batch.tokens.count, logitChunks: chunks)
    }
  }

  private var runners: [ModelRunner] {
    if case .model(let runner) = reference { [runner, candidate] } else { [candidate] }
  }

  /// Runs both and compares.
  ///
  /// Each model's weights are read once, one model after the other; logits are computed of as many tokens at a time as
  /// the budget allows.
  ///
  /// - Parameters:
  ///   - each: Receives the candidate's logits of each token, in order.
  /// - Throws: What reading and running throw; `CancellationError`.
  public func run(
    limits: LogitsLimits = LogitsLimits(), monitor: WorkMonitor = WorkMonitor(),
    each: (_ row: Int, _ logits: Span<Float>) throws -> Void = { _, _ in }
  ) throws -> LogitsReport {
    var comparison = LogitsComparison()
    // What the first model gave is kept while the second runs.
    for runner in runners { try runner.checkMemory(input.batch, extraStreams: runners.count) }
    let (mine, experts) = try normalised(candidate, "candidate", monitor)
    let next = input.nextTokens
    switch reference {
    case .file(let file):
      var row = [Float](repeating: 0, count: file.vocabulary)
      for tokens in candidate.logitChunks(input.batch, sides: 2) {
        let logits = try candidate.model.logits(mine.copy(rows: tokens))
        for token in tokens {
          do {
            var span = row.mutableSpan
            try file.read(token, into: &span)
          }
          try comparison.add(
            reference: row.span, candidate: logits[token - tokens.lowerBound], next: next[token])
          try each(token, logits[token - tokens.lowerBound])
        }
        monitor.advance(candidate.bytesPerLogitChunk)
      }
      return comparison.report(limits: limits)
    case .model(let runner):
      let (theirs, choices) = try normalised(runner, "reference", monitor)
      for tokens in candidate.logitChunks(input.batch, sides: 2) {
        let logits = try candidate.model.logits(mine.copy(rows: tokens))
        let expected = try runner.model.logits(theirs.copy(rows: tokens))
        for token in tokens {
          let row = token - tokens.lowerBound
          try comparison.add(reference: expected[row], candidate: logits[row], next: next[token])
          try each(token, logits[row])
        }
        monitor.advance(candidate.bytesPerLogitChunk + runner.bytesPerLogitChunk)
      }
      return comparison.report(limits: limits, expertAgreement: choices.agreement(of: experts))
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
