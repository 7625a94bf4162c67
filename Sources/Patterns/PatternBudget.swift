internal import Synchronization

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

  /// The steps that the next match may take; 0 when all are used up.
  var allowance: Int { max(0, min(PatternBudget.largestMatch, left.load(ordering: .relaxed))) }

  func use(_ steps: Int) { left.subtract(steps, ordering: .relaxed) }
}
