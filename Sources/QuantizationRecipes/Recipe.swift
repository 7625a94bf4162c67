public import Checkpoint
internal import Quantization
public import Patterns
public import TensorFormats

/// Maps every tensor of a model to a storage format: an ordered list of rules, of which the first that applies decides.
///
/// A recipe is a value without a model in it. Nothing it does is silent: a tensor that no rule covers, a format that
/// does not fit and a rule that decides nothing are errors or reported fallbacks.
public struct Recipe: Hashable, Sendable, Codable {
  /// The built-in's name, or what the file calls itself.
  public var name: String
  /// One line for a listing.
  public var summary: String
  /// In order of precedence.
  public var rules: [RecipeRule]
  /// What to do if a format does not fit, for rules without a fallback of their own.
  public var onMisfit: Fallback
  /// How to store the tensors that no rule may touch.
  public var precise: PreciseFormats
  /// The kind of files it is for, if its name means a different recipe for the other kind; `nil` otherwise.
  public var container: Checkpoint.Format?
  /// What it needs that only a known model has, as text: `the routed experts`. `nil` for a recipe that uses only
  /// names and shapes.
  public var knownSubject: String?

  /// Makes a recipe.
  public init(
    name: String, summary: String, rules: [RecipeRule], onMisfit: Fallback = .standard,
    precise: PreciseFormats = PreciseFormats(), container: Checkpoint.Format? = nil,
    knownSubject: String? = nil
  ) {
    self.name = name
    self.summary = summary
    self.rules = rules
    self.onMisfit = onMisfit
    self.precise = precise
    self.container = container
    self.knownSubject = knownSubject
  }
}

/// What a recipe says about one tensor.
public struct RecipeDecision: Hashable, Sendable, Codable {
  /// What the tensor is stored as.
  public let format: StorageFormat
  /// What the rule asked for; differs from ``format`` after a fallback.
  public let wanted: StorageFormat
  /// Why it fell back, for the plan; `nil` if it did not.
  public let reason: String?
  /// The index of the rule that decided; `nil` for tensors that are always kept precise.
  public let rule: Int?
  /// Why the tensor is always kept precise; `nil` if a rule decided.
  public let keptPrecise: KeptPrecise?

  /// Makes a decision.
  public init(
    format: StorageFormat, wanted: StorageFormat, reason: String? = nil, rule: Int?,
    keptPrecise: KeptPrecise? = nil
  ) {
    self.format = format
    self.wanted = wanted
    self.reason = reason
    self.rule = rule
    self.keptPrecise = keptPrecise
  }
}

// MARK: - Deciding

extension Recipe {
  /// The storage format of one tensor.
  ///
  /// - Parameters:
  ///   - subject: The tensor.
  ///   - container: The files it is written to.
  ///   - obstacle: Why a format that fits the tensor's shape still cannot be used, for reasons that only
  ///     the caller knows; `nil` if it can. Called at most once per format, in order of preference.
  /// - Throws: `.invalidRequest` if no rule covers the tensor or a pattern takes too long; `.unsupported` if nothing the
  ///   recipe allows for it fits; what `obstacle` throws.
  /// - Complexity: O(number of conditions).
  public func decide(
    _ subject: RecipeSubject, in container: Checkpoint.Format,
    obstacle: (StorageFormat) throws(CheckpointError) -> String? = { _ throws(CheckpointError) in nil }
  ) throws(CheckpointError) -> RecipeDecision {
    let names = subject.nameBytes
    if let kept = KeptPrecise.reason(for: subject, names: names) {
      var wanted = precise.format(for: subject, reason: kept, in: container)
      if kept == .convolution, container == .gguf, subject.isHalfConvolution, wanted == .element(.f32),
        rules.last?.format == .element(.f16)
      {
        wanted = .element(.f16)
      }
      return try fit(wanted, fallback: onMisfit, subject, container, rule: nil, kept: kept, obstacle)
    }
    guard let index = try firstRule(for: subject, names) else {
      throw CheckpointError(
        .invalidRequest,
        "no rule of the recipe '\(name.printable)' covers it (role \(subject.role.rawValue)"
          + (subject.layer.map { ", layer \($0)" } ?? "") + ", shape \(subject.shape))",
        tensor: subject.name, remedy: "end the recipe with a rule without conditions")
    }
    let rule = rules[index]
    return try fit(
      rule.format, fallback: rule.fallback ?? onMisfit, subject, container, rule: index, kept: nil, obstacle)
  }

  private func firstRule(
    for subject: RecipeSubject, _ names: [NameBytes]
  ) throws(CheckpointError) -> Int? {
    for (index, rule) in rules.enumerated() where try rule.matches(subject, names: names) { return index }
    return nil
  }

  /// The first usable format among a rule's and its fallbacks.
  private func fit(
    _ wanted: StorageFormat, fallback: Fallback, _ subject: RecipeSubject, _ container: Checkpoint.Format,
    rule: Int?, kept: KeptPrecise?, _ obstacle: (StorageFormat) throws(CheckpointError) -> String?
  ) throws(CheckpointError) -> RecipeDecision {
    var reasons: [String] = []
    // A format that would have fitted the shape: the formats after it stand in for it, and add no reasons of their own.
    var obstructed: (format: StorageFormat, obstacle: String)?
    let wanted = wanted.resolved(in: container)
    // Integers cannot become anything else, so there is nothing for them to fall back to.
    let chain = kept == .integer ? [] : fallback.formats(after: wanted, for: subject, in: container)
    for format in [wanted] + chain.map({ $0.resolved(in: container) }) {
      let misfit = format.misfit(
        subject.shape, source: subject.sourceType, scheme: subject.sourceScheme, in: container)
      if let misfit {
        if obstructed == nil, !reasons.contains(misfit) { reasons.append(misfit) }
      } else if let reason = try obstacle(format) {
        if obstructed == nil {
          obstructed = (format, reason)
          reasons.append(reason)
        }
      } else {
        let reason = reasons.isEmpty ? nil : reasons.joined(separator: "; ")
        return RecipeDecision(format: format, wanted: wanted, reason: reason, rule: rule, keptPrecise: kept)
      }
    }
    if let obstructed {
      throw CheckpointError(
        .unsupported, "cannot be stored as \(obstructed.format): \(obstructed.obstacle)",
        tensor: subject.name,
        remedy: "give the rule a fallback, or another format")
    }
    throw CheckpointError(
      .unsupported,
      "cannot be stored as \(([wanted] + chain).map(\.spelling).joined(separator: " or ")): "
        + reasons.joined(separator: "; "),
      tensor: subject.name, remedy: Recipe.remedy(wanted, in: container, kept: kept))
  }

  private static func remedy(_ wanted: StorageFormat, in container: Checkpoint.Format, kept: KeptPrecise?)
    -> String
  {
    if kept != nil { return "convert to the other kind of file, or leave the tensor out" }
    // The same codes have different names in the two kinds of files.
    switch (wanted, container) {
    case (.element(.nvfp4), .safetensors): return "choose NVFP4A16, its form in safetensors, or write GGUF"
    case (.scheme(let stored), .gguf) where stored.scheme == .nvfp4:
      return "choose NVFP4, its form in GGUF, or write safetensors"
    case (.scheme(let stored), .gguf) where stored.scheme == .mxfp4:
      return "choose MXFP4, its form in GGUF, or write safetensors"
    default: break
    }
    switch container {
    case .safetensors where wanted.isGGMLBlock: return "write GGUF, or choose FP8_BLOCK or BF16"
    case .gguf where wanted.isScheme: return "write safetensors, or choose Q8_0 or another of GGML's formats"
    default: return "give the rule a fallback that fits, or another format"
    }
  }
}

extension StorageFormat {
  fileprivate var isGGMLBlock: Bool {
    if case .element(let type) = self { type.isBlockQuantized } else { false }
  }

  fileprivate var isScheme: Bool { if case .scheme = self { true } else { false } }
}

extension Recipe {
  /// Whether it leaves every tensor as it is, so that nothing needs to be known about any.
  public var isCopy: Bool { self == .keep }
}

// MARK: - Rules that decide nothing

extension Recipe {
  /// The rules that should have decided some tensor and did not.
  ///
  /// - Parameter used: The ``RecipeDecision/rule`` of every tensor of the model.
  /// - Returns: Indices into ``rules``, without the optional ones.
  public func unusedRules(used: Set<Int>) -> [Int] {
    rules.indices.filter { !used.contains($0) && !rules[$0].isOptional }
  }

  /// Refuses a recipe that needs something unknown about the model.
  ///
  /// - Parameter model: The model's own name.
  /// - Throws: `.invalidRequest` with an alternative.
  public func requireNoKnownModel(called model: String?) throws(CheckpointError) {
    guard let knownSubject else { return }
    let scheme = SchemeRecipe.named(String(name.prefix { $0 != "," }))
    let instead =
      scheme?.hasLinearScope == true ? "give --scope linear or a recipe file" : "give a recipe file"
    throw CheckpointError(
      .invalidRequest,
      "\(name.printable) quantises \(knownSubject) of a Step-3; this model is "
        + (model?.printable ?? "another, which does not say its name"), remedy: instead)
  }

  /// Makes an unused rule an error.
  ///
  /// - Parameter used: The ``RecipeDecision/rule`` of every tensor of the model.
  /// - Throws: `.invalidRequest` naming every rule of ``unusedRules(used:)``.
  public func requireAllUsed(_ used: Set<Int>) throws(CheckpointError) {
    let unused = unusedRules(used: used)
    guard !unused.isEmpty else { return }
    if let knownSubject, unused.contains(where: { rules[$0].isExpertStack == true }) {
      throw CheckpointError(
        .invalidRequest,
        "\(name.printable) quantises \(knownSubject), and this model has none left for it",
        remedy: "choose a recipe for all matrices, or leave out the --tensor-type that takes them all")
    }
    let list = unused.map { "rule \($0 + 1) (\(rules[$0]))" }.joined(separator: ", ")
    throw CheckpointError(
      .invalidRequest, "the recipe '\(name.printable)' has rules that decide no tensor: \(list)",
      remedy:
        "either nothing matches, or earlier rules took it all, or it is always kept precise; correct the rule, "
        + "or mark it 'optional: true'")
  }
}

// MARK: - Overrides

/// One `--tensor-type PATTERN=TYPE`: a regular expression, found anywhere in a tensor's name, and a format.
public struct TensorTypeOverride: Hashable, Sendable {
  /// Looked for in the names.
  public let pattern: NamePattern
  /// What the tensors are stored as.
  public let format: StorageFormat

  /// Reads the argument. The type is what follows the last `=`.
  ///
  /// - Throws: `.invalidRequest` if there is no `=`, no pattern, no such format, or the pattern is not a regular
  ///   expression.
  public init(argument: String) throws(CheckpointError) {
    guard let equals = argument.lastIndex(of: "="), equals != argument.startIndex else {
      throw CheckpointError(
        .invalidRequest, "'\(argument.printable)' is not PATTERN=TYPE", remedy: "for example 'attn_v=Q8_0'")
    }
    self.pattern = try NamePattern(option: String(argument[..<equals]))
    self.format = try StorageFormat(spelling: String(argument[argument.index(after: equals)...]))
  }
}

extension Recipe {
  /// This recipe with overrides put in front, the first given first.
  ///
  /// They are rules like any other: one that decides nothing is an error, and tensors that are always kept precise stay
  /// so.
  public func overriding(with overrides: [TensorTypeOverride]) -> Recipe {
    guard !overrides.isEmpty else { return self }
    var copy = self
    copy.rules = overrides.map { RecipeRule(names: [$0.pattern], format: $0.format) } + rules
    return copy.withOneBudget()
  }

  /// This recipe with all patterns sharing one step budget.
  func withOneBudget() -> Recipe {
    let budget = PatternBudget()
    var copy = self
    for index in copy.rules.indices {
      copy.rules[index].names = copy.rules[index].names.map { $0.drawing(on: budget) }
    }
    return copy
  }
}
