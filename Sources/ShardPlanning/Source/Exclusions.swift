internal import Checkpoint
internal import StoredWeights
internal import Patterns
internal import TensorFormats

/// Which tensors are left out on purpose.
struct Exclusions {
  private let patterns: [Patterns.NamePattern]

  /// - Throws: `.invalidRequest` for an invalid regular expression.
  init(_ texts: [String]) throws(CheckpointError) {
    var patterns: [Patterns.NamePattern] = []
    for text in texts { patterns.append(try Patterns.NamePattern(option: text)) }
    self.patterns = patterns
  }

  /// The pattern that a name matches; `nil` if none.
  func pattern(for name: String) throws(CheckpointError) -> String? {
    for pattern in patterns where try pattern.matches(name) { return pattern.text }
    return nil
  }

  /// Leaves tensors out: those whose own name matches, and those belonging to a weight whose name does.
  ///
  /// - Throws: `.invalidRequest` for a pattern that no tensor matches.
  func apply(
    to checkpoint: Checkpoint
  ) throws(CheckpointError) -> (checkpoint: Checkpoint, excluded: [ShardPlan.Exclusion]) {
    guard !patterns.isEmpty else { return (checkpoint, []) }
    var excluded: [ShardPlan.Exclusion] = []
    var weights: [Substring: String] = [:]
    for tensor in checkpoint.tensors {
      guard let pattern = try pattern(for: tensor.name) else { continue }
      excluded.append(ShardPlan.Exclusion(tensor: tensor.name, pattern: pattern))
      if let (module, suffix) = Self.parts(tensor.name), Self.codes.contains(suffix) {
        weights[module] = pattern
      }
    }
    var names = Set(excluded.map(\.tensor))
    for tensor in checkpoint.tensors {
      guard let (module, suffix) = Self.parts(tensor.name), suffix != "bias", let pattern = weights[module],
        names.insert(tensor.name).inserted
      else { continue }
      excluded.append(ShardPlan.Exclusion(tensor: tensor.name, pattern: pattern))
    }
    try checkCompanions(names, of: checkpoint)
    let used = Set(excluded.map(\.pattern))
    if let idle = patterns.first(where: { !used.contains($0.text) }) {
      // A pattern may be the second that matches a name.
      var matches = false
      for tensor in checkpoint.tensors where try idle.matches(tensor.name) { matches = true }
      guard matches else {
        throw CheckpointError(
          .invalidRequest, "--exclude '\(idle.text.printable)' matches no tensor", path: checkpoint.path,
          remedy: "step3-inspect list shows their names")
      }
    }
    return (checkpoint.excluding { names.contains($0.name) }, excluded)
  }

  /// Codes without their companions would be misinterpreted.
  private func checkCompanions(_ names: Set<String>, of checkpoint: Checkpoint) throws(CheckpointError) {
    let plain: Set<ElementType> = [.f64, .f32, .f16, .bf16]
    for name in names.sorted() {
      guard let (module, suffix) = Self.parts(name), suffix != "bias", !Self.codes.contains(suffix),
        !ModelWeights.isAboutActivations(name)
      else { continue }
      for code in Self.codes.sorted() {
        guard let codes = checkpoint["\(module).\(code)"], !names.contains(codes.name),
          !plain.contains(codes.elementType)
        else { continue }
        throw CheckpointError(
          .invalidRequest,
          "--exclude leaves out \(name.printable), without which these codes are meaningless",
          path: checkpoint.path(of: codes), tensor: codes.name,
          remedy: "leave out the weight as well, or neither")
      }
    }
  }

  private static let codes: Set<Substring> = ["weight", "weight_packed", "qweight"]

  private static func parts(_ name: String) -> (module: Substring, suffix: Substring)? {
    guard let dot = name.lastIndex(of: ".") else { return nil }
    return (name[..<dot], name[name.index(after: dot)...])
  }
}
