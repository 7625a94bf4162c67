/// The time that the steps of a calibration took, in seconds, without layers done by earlier runs.
public struct GPTQTimes: Codable, Hashable, Sendable {
  /// Running the text through the layers: everything not in the others.
  public var forwardPass = 0.0
  /// Accumulating the second moments of the layers' inputs.
  public var moments = 0.0
  /// Factoring them.
  public var factors = 0.0
  /// Choosing scales and codes, and writing them.
  public var codes = 0.0

  /// All of them.
  public var total: Double { forwardPass + moments + factors + codes }

  /// Runs a step and adds the time it takes.
  static func timing<Result>(
    _ step: WritableKeyPath<GPTQTimes, Double>, _ times: inout GPTQTimes, _ body: () throws -> Result
  ) rethrows -> Result {
    let start = ContinuousClock.now
    defer { times[keyPath: step] += (ContinuousClock.now - start) / .seconds(1) }
    return try body()
  }
}
