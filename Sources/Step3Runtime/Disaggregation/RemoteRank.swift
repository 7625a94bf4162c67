internal import Checkpoint
internal import TensorFormats

/// One feed-forward rank: the connection to it, and its process if it was started here.
final class RemoteRank: Sendable {
  /// The part's directory, used in messages.
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

  /// How long a worker may take to exit after being asked to, or after its connection broke, in milliseconds.
  private static let grace = 2000

  /// Waits for a message of one kind.
  ///
  /// - Throws: The rank's own error, `.inputOutput` if it is gone, `.malformed` for another message; all with its name.
  func receive(_ kind: Frame.Kind) throws -> Frame {
    try named {
      guard let frame = try stream.receive() else { throw gone() }
      if frame.kind == .failure { throw try frame.decoded(RemoteFailure.self).error(of: name) }
      guard frame.kind == kind else {
        throw CheckpointError(.malformed, "received a message (\(frame.kind)) instead of another (\(kind))")
      }
      return frame
    }
  }

  /// Sends a message.
  func send(_ kind: Frame.Kind, _ payload: [UInt8]) throws {
    do {
      try stream.send(kind, payload)
    } catch let error as CheckpointError {
      // A rank that failed has said why before closing the connection.
      guard error.code == .inputOutput, (try receive(kind)).kind != kind else { throw error }
    }
  }

  /// Tells the rank that there are no more requests.
  func sayGoodbye() { try? stream.send(.goodbye) }

  /// Waits until the process has exited; kills it if it does not.
  func finish() {
    _ = process?.waitForEnd(milliseconds: Self.grace)
    stop()
  }

  /// Kills it at once.
  func stop() {
    stream.hangUp()
    process?.stop()
  }

  /// Runs `body`, adding the rank's name to its errors.
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

  /// The error for a rank whose connection ended.
  private func gone() -> CheckpointError {
    let end = process?.waitForEnd(milliseconds: Self.grace)
    return CheckpointError(
      .inputOutput, "the connection ended" + (end.map { ", and its process \($0.description)" } ?? ""))
  }
}
