internal import Checkpoint
internal import TensorFormats

/// One feed-forward rank: the connection to it, and its process where it was started here.
final class RemoteRank: Sendable {
  /// The part's directory, by which messages call it.
  let name: String
  let identity: PartIdentity
  let stream: FrameStream
  let process: WorkerProcess?

  init(name: String, identity: PartIdentity, stream: FrameStream, process: WorkerProcess?) {
    self.name = name
    self.identity = identity
    self.stream = stream
    self.process = process
  }

  /// How long a worker may take to end after it was asked to, or after its connection broke, in milliseconds.
  private static let grace = 2000

  /// Waits for a message of one kind.
  ///
  /// - Throws: The rank's own error, `.inputOutput` if it is gone, `.malformed` for another message; with its name.
  func receive(_ kind: Frame.Kind) throws -> Frame {
    try named {
      guard let frame = try stream.receive() else { throw gone() }
      if frame.kind == .failure { throw try frame.decoded(RemoteFailure.self).error(of: name) }
      guard frame.kind == kind else {
        throw CheckpointError(.malformed, "a message (\(frame.kind)) came instead of another (\(kind))")
      }
      return frame
    }
  }

  /// Sends a message.
  func send(_ kind: Frame.Kind, _ payload: [UInt8]) throws {
    do {
      try stream.send(kind, payload)
    } catch let error as CheckpointError {
      // A rank that failed has said why before it ended the connection.
      guard error.code == .inputOutput, (try receive(kind)).kind != kind else { throw error }
    }
  }

  /// Tells the rank that nothing more will be asked.
  func sayGoodbye() { try? stream.send(.goodbye) }

  /// Waits until the process is gone; one that does not go is ended.
  func finish() {
    _ = process?.waitForEnd(milliseconds: Self.grace)
    stop()
  }

  /// Ends it at once.
  func stop() {
    stream.hangUp()
    process?.stop()
  }

  /// Runs `body` and gives its errors the rank's name.
  func named<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch var error as CheckpointError {
      if error.code == .inputOutput || error.code == .truncated { error = gone() }
      let prefix = "FFN part \(name): "
      if !error.message.hasPrefix(prefix) { error.message = prefix + error.message }
      throw error
    }
  }

  /// What to say of a rank whose connection ended.
  private func gone() -> CheckpointError {
    let end = process?.waitForEnd(milliseconds: Self.grace)
    return CheckpointError(
      .inputOutput, "the connection ended" + (end.map { ", and its process \($0.description)" } ?? ""))
  }
}
