public import TensorFormats

/// A regular expression, or a shell pattern, as Python's standard library matches it: the dialect of the lists of modules
/// in `quantization_config`, which engines hand to `re.match` and to `fnmatch`.
///
/// It is translated into PCRE2's dialect with everything spelled out in which the two differ. What Python (3.11 and
/// later) refuses is refused, and so is what is not translated: conditional groups, names of characters, the flags `a` and
/// `x`, back references inside a look-behind or without regard to case, and characters beyond ASCII without regard to
/// case. A match has a limit of steps; Python itself has none.
public struct PythonPattern: Sendable {
  /// The pattern as written.
  public let text: String
  private let expression: Expression
  private var budget = PatternBudget()

  private init(_ text: String, translated: String) throws(CheckpointError) {
    self.text = text
    expression = try Expression(translated, translating: text)
  }

  /// A regular expression of `re`.
  ///
  /// - Throws: `.malformed` for what Python refuses, with its place; `.unsupported` for what is not translated.
  public init(_ text: String) throws(CheckpointError) {
    try self.init(text, translated: PythonTranslation.expression(text))
  }

  /// A shell pattern of `fnmatch`, which a whole name matches: `*`, `?`, `[...]` and `[!...]`.
  ///
  /// - Throws: `.unsupported` if it is too long.
  public init(shell text: String) throws(CheckpointError) {
    try self.init(text, translated: PythonTranslation.shell(text))
  }

  /// The same pattern, whose steps count towards those of a job.
  public func drawing(on budget: PatternBudget) -> PythonPattern {
    var copy = self
    copy.budget = budget
    return copy
  }

  /// Whether a match begins where the name does, as `re.match` has it.
  ///
  /// - Throws: `.invalidRequest`, naming the pattern, if it takes more steps than one match, or the job, has.
  public func matchesStart(of name: String) throws(CheckpointError) -> Bool {
    let name = NameBytes(name)
    return try budget.match(self, on: name) {
      expression.matches(name, isAnchored: true, steps: &$0)
    }
  }
}

extension PythonPattern: CustomStringConvertible {
  /// `pattern '.*moe\.gate$'`
  public var description: String { "pattern '\(text.printable)'" }
}
