public import TensorFormats

/// A pattern for names: a glob that the whole name must match, or a regular expression found anywhere in it.
///
/// Regular expressions are PCRE2's, on Unicode text: `\w`, `\d` and `\b` know all scripts. Steps are limited for each
/// match and for each job (``PatternBudget``), so that a bad pattern gives an error instead of a long wait.
public struct NamePattern: Sendable {
  /// The kind of a pattern.
  public enum Kind: String, Hashable, Sendable, Codable {
    /// `*` stands for any characters (dots too), `?` for one; everything else for itself.
    case glob
    /// A regular expression, not anchored.
    case regex
  }

  /// Glob or regular expression.
  public var kind: Kind {
    switch matcher {
    case .glob: .glob
    case .regex: .regex
    }
  }
  /// The pattern as written.
  public let text: String
  private let matcher: Matcher
  private var budget = PatternBudget()

  private enum Matcher: Sendable {
    case glob(Glob)
    case regex(Expression)
  }

  private init(_ text: String, _ matcher: Matcher) {
    self.text = text
    self.matcher = matcher
  }

  /// A glob, such as `model.layers.*.moe.down_proj.weight`. Any text is one.
  public static func glob(_ text: String) -> NamePattern { NamePattern(text, .glob(Glob(text))) }

  /// A regular expression, such as `attn_(q|k)\.`.
  ///
  /// - Throws: `.invalidRequest` if it is not valid, with the reason and position.
  public static func regex(_ text: String) throws(CheckpointError) -> NamePattern {
    NamePattern(text, .regex(try Expression(text)))
  }

  /// A pattern given as a command-line option: a regular expression that may match anywhere in a name.
  ///
  /// - Throws: As ``regex(_:)``.
  public init(option text: String) throws(CheckpointError) { self = try .regex(text) }

  /// The same pattern, counting its steps against a job's budget.
  public func drawing(on budget: PatternBudget) -> NamePattern {
    var copy = self
    copy.budget = budget
    return copy
  }

  /// Whether a name matches.
  ///
  /// - Throws: `.invalidRequest`, naming the pattern, if it exceeds the steps of one match or of the job.
  public func matches(_ name: String) throws(CheckpointError) -> Bool { try matches(NameBytes(name)) }

  /// As above, for a name that is matched against many patterns.
  ///
  /// - Throws: As ``matches(_:)-(String)``.
  public func matches(_ name: NameBytes) throws(CheckpointError) -> Bool {
    try budget.match(self, on: name) { steps in
      switch matcher {
      case .glob(let glob): glob.matches(name, steps: &steps)
      case .regex(let expression): expression.matches(name, steps: &steps)
      }
    }
  }
}

extension NamePattern: Hashable {
  public static func == (a: NamePattern, b: NamePattern) -> Bool { a.kind == b.kind && a.text == b.text }
  public func hash(into hasher: inout Hasher) {
    hasher.combine(kind)
    hasher.combine(text)
  }
}

extension NamePattern: CustomStringConvertible {
  /// `name '*.v_proj.weight'` or `regex 'attn_.'`
  public var description: String { "\(kind == .glob ? "name" : "regex") '\(text.printable)'" }
}

extension NamePattern: Codable {
  private enum CodingKeys: String, CodingKey { case glob, regex }

  /// Reads `{"glob": "..."}` or `{"regex": "..."}`.
  public init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    if let text = try values.decodeIfPresent(String.self, forKey: .glob) {
      self = .glob(text)
    } else {
      self = try .regex(try values.decode(String.self, forKey: .regex))
    }
  }

  /// Writes `{"glob": "..."}` or `{"regex": "..."}`.
  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(text, forKey: kind == .glob ? .glob : .regex)
  }
}
