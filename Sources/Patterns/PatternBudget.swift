internal import Synchronization
internal import TensorFormats

/// How many steps the patterns of one job may take together.
///
/// A step is about what it takes to look at one character: matching a recipe's patterns against the names of a model takes
/// some millions. Patterns that share a budget draw on it wherever they are used; when it is used up, matching fails.
public final class PatternBudget: Sendable {
  /// What a job gets unless it says otherwise: half a minute of matching, more or less.
  public static let usual = 1 << 32
  /// What a single match may take: a tenth of a second, more or less.
  public static let largestMatch = 1 << 22

  private let left: Atomic<Int>

  /// - Parameter steps: How many there are.
  public init(steps: Int = PatternBudget.usual) { left = Atomic(steps) }

  /// Runs one match within what is left.
  ///
  /// - Parameters:
  ///   - pattern: What an error calls the pattern.
  ///   - body: The match. Takes from the steps it is given; `nil` if they did not suffice.
  /// - Throws: `.invalidRequest`, naming the pattern, if they did not.
  func match(
    _ pattern: some CustomStringConvertible, on name: NameBytes, _ body: (inout Int) -> Bool?
  ) throws(CheckpointError) -> Bool {
    let allowance = max(0, min(PatternBudget.largestMatch, left.load(ordering: .relaxed)))
    // Beginning costs something as well, so that nothing is free.
    var steps = allowance - 16
    let result = body(&steps)
    left.subtract(allowance - steps, ordering: .relaxed)
    if let result { return result }
    let shown =
      name.text.count > 80 ? "\(name.text.prefix(80).description.printable)..." : name.text.printable
    guard allowance == PatternBudget.largestMatch else {
      throw CheckpointError(
        .invalidRequest,
        "the patterns take too long: their steps were used up when \(pattern) was looked for in '\(shown)'",
        remedy: "give fewer or simpler patterns")
    }
    throw CheckpointError(
      .invalidRequest, "\(pattern) takes too long on the name '\(shown)' (\(name.utf8.count) bytes)",
      remedy: "write it without repetitions of repetitions, such as (a+)+ or (.*)*")
  }
}
