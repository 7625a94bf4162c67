internal import Synchronization
internal import TensorFormats

/// The number of steps that the patterns of one job may take together.
///
/// A step is roughly the work of looking at one character: matching a recipe's patterns against the names of a model
/// takes a few million. Patterns that share a budget draw on it wherever they are used; once it is exhausted, matching
/// fails.
public final class PatternBudget: Sendable {
  /// The default of a job: about half a minute of matching.
  public static let usual = 1 << 32
  /// The limit of a single match: about a tenth of a second.
  public static let largestMatch = 1 << 22

  private let left: Atomic<Int>

  /// - Parameter steps: The number of steps.
  public init(steps: Int = PatternBudget.usual) { left = Atomic(steps) }

  /// Runs one match within the remaining steps.
  ///
  /// - Parameters:
  ///   - pattern: The name of the pattern in errors.
  ///   - body: The match. Subtracts from the steps it is given; returns `nil` if they ran out.
  /// - Throws: `.invalidRequest`, naming the pattern, if the steps ran out.
  func match(
    _ pattern: some CustomStringConvertible, on name: NameBytes, _ body: (inout Int) -> Bool?
  ) throws(CheckpointError) -> Bool {
    let allowance = max(0, min(PatternBudget.largestMatch, left.load(ordering: .relaxed)))
    // Starting a match has a cost too, so that no match is free.
    var steps = allowance - 16
    let result = body(&steps)
    left.subtract(allowance - steps, ordering: .relaxed)
    if let result { return result }
    let shown =
      name.text.count > 80 ? "\(name.text.prefix(80).description.printable)..." : name.text.printable
    guard allowance == PatternBudget.largestMatch else {
      throw CheckpointError(
        .invalidRequest,
        "the patterns take too long: their steps ran out while matching \(pattern) against '\(shown)'",
        remedy: "use fewer or simpler patterns")
    }
    throw CheckpointError(
      .invalidRequest, "\(pattern) takes too long on the name '\(shown)' (\(name.utf8.count) bytes)",
      remedy: "avoid nested repetitions such as (a+)+ or (.*)*")
  }
}
