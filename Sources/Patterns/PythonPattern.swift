public import TensorFormats

/// A regular expression or shell pattern with the semantics of Python's standard library: the dialect of the module
/// lists in `quantization_config`, which engines pass to `re.match` and `fnmatch`.
///
/// It is translated into PCRE2's dialect, with every difference spelled out. Patterns that Python (3.11 and later)
/// refuses are refused, and so is anything that is not translated: conditional groups, character names, the flags `a`
/// and `x`, back references inside a look-behind or with case ignored, and case-insensitive characters beyond ASCII. A
/// match has a step limit; Python itself has none.
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
  /// - Throws: `.malformed` for patterns that Python refuses, with the position; `.unsupported` for syntax that is not
  ///   translated.
  public init(_ text: String) throws(CheckpointError) {
    try self.init(text, translated: PythonTranslation.expression(text))
  }

  /// A shell pattern of `fnmatch`, which must match the whole name: `*`, `?`, `[...]` and `[!...]`.
  ///
  /// - Throws: `.unsupported` if it is too long.
  public init(shell text: String) throws(CheckpointError) {
    try self.init(text, translated: PythonTranslation.shell(text))
  }

  /// The same pattern, counting its steps against a job's budget.
  public func drawing(on budget: PatternBudget) -> PythonPattern {
    var copy = self
    copy.budget = budget
    return copy
  }

  /// Whether there is a match at the start of the name, as with `re.match`.
  ///
  /// - Throws: `.invalidRequest`, naming the pattern, if it exceeds the steps of one match or of the job.
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
