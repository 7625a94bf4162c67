internal import Patterns
internal import TensorFormats

/// A list of unquantised modules, matched as one engine does for one method.
struct ModuleList {
  /// How entries are compared with names.
  enum Style {
    /// `quant_method` fp8 and mxfp8: whole names.
    case exact
    /// compressed-tensors: whole names, or `re:` and a regular expression.
    case compressedTensors
    /// The targets of compressed-tensors: the same, but experts match by the weights of the first one in both engines.
    case targets
    /// ModelOpt: parts of names, or wildcards.
    case modelOpt
    /// AWQ: parts of names.
    case parts
    /// GPTQ: regular expressions.
    case patterns
  }

  /// Whether a module is in the list.
  enum Answer: Equatable {
    case yes, no, mixed
    /// Unknown because a pattern takes too long; the reason.
    case unknown(String)
  }

  struct Entry {
    let text: String
    let pattern: PythonPattern?
  }

  let style: Style
  let model: EngineModel
  private(set) var entries: [Entry] = []
  /// Errors of entries that could not be parsed.
  private(set) var unreadable: [String] = []
  /// The step budget of the whole list, a few seconds, so that a hostile one cannot stall the check.
  private let budget = PatternBudget(steps: 1 << 28)

  private var engine: Engine { model.engine }

  init(_ texts: [String], style: Style, model: EngineModel) {
    self.style = style
    self.model = model
    for text in texts { add(text) }
  }

  private mutating func add(_ text: String) {
    switch style {
    case .exact where engine == .sglang:
      let base = text.hasPrefix("model.") ? String(text.dropFirst(6)) : text
      entries += [base, "model.\(base)"].map { Entry(text: $0, pattern: nil) }
    case .exact, .parts: entries.append(Entry(text: model.renamed(text), pattern: nil))
    case .compressedTensors, .targets:
      guard text.hasPrefix("re:") else {
        return entries.append(Entry(text: model.renamed(text), pattern: nil))
      }
      append(text) { () throws(CheckpointError) in try PythonPattern(String(text.dropFirst(3))) }
    case .modelOpt:
      // vLLM takes `module*` for the module and everything below it.
      let isTree = engine == .vllm && text.count >= 2 && text.hasSuffix("*") && !text.hasSuffix(".*")
      for text in isTree ? [String(text.dropLast()), text.dropLast() + ".*"] : [text] {
        let name = model.renamed(text)
        guard name.contains("*") || name.contains("?") || name.contains("[") else {
          entries.append(Entry(text: name, pattern: nil))
          continue
        }
        append(name) { () throws(CheckpointError) in try PythonPattern(shell: name) }
      }
    case .patterns: append(text) { () throws(CheckpointError) in try PythonPattern(text) }
    }
  }

  private mutating func append(_ text: String, _ pattern: () throws(CheckpointError) -> PythonPattern) {
    do throws(CheckpointError) {
      entries.append(Entry(text: text, pattern: try pattern().drawing(on: budget)))
    } catch {
      unreadable.append(error.message)
    }
  }

  /// Whether the engine leaves a module unquantised.
  func contains(_ module: EngineModule) -> Answer {
    do throws(CheckpointError) {
      return try answer(for: module)
    } catch {
      return .unknown(error.message)
    }
  }

  private func answer(for module: EngineModule) throws(CheckpointError) -> Answer {
    let name = model.name(of: module)
    // vLLM's compressed-tensors looks up the first expert's projections, not the module.
    if module.kind == .experts, style == .targets || (style == .compressedTensors && engine == .vllm) {
      return try combined(module.probes(of: name), module)
    }
    // SGLang looks up the weights of a fused module, never the module itself.
    if style == .exact, engine == .sglang, module.isFused {
      return try combined(model.memberNames(of: module), module)
    }
    if try matches(name, module) { return .yes }
    let looksAtMembers = engine == .sglang || model.rules.knowsMembers
    return looksAtMembers && module.isFused ? try combined(model.memberNames(of: module), module) : .no
  }

  private func combined(_ names: [String], _ module: EngineModule) throws(CheckpointError) -> Answer {
    var count = 0
    for name in names where try matches(name, module) { count += 1 }
    return count == names.count ? .yes : count > 0 ? .mixed : .no
  }

  private func matches(_ name: String, _ module: EngineModule) throws(CheckpointError) -> Bool {
    for entry in entries where try matches(entry, name, module) { return true }
    return false
  }

  private func matches(
    _ entry: Entry, _ name: String, _ module: EngineModule
  ) throws(CheckpointError) -> Bool {
    if let pattern = entry.pattern {
      if try pattern.matchesStart(of: name) { return true }
      // SGLang's ModelOpt also looks at the name inside the vision-language model.
      let outer = "language_model."
      guard style == .modelOpt, engine == .sglang, name.hasPrefix(outer) else { return false }
      return try pattern.matchesStart(of: String(name.dropFirst(outer.count)))
    }
    return switch style {
    case .exact where engine == .vllm && module.kind == .experts:
      entry.text.contains("experts") && entry.text.contains(name)
    // SGLang takes an entry for the module of that name and all below it, wherever in the name it stands between dots.
    case .exact where engine == .sglang: ".\(name).".contains(".\(entry.text).")
    case .exact, .targets: entry.text == name
    // SGLang looks for plain entries anywhere in the name, whatever their case.
    case .compressedTensors:
      engine == .sglang ? name.lowercased().contains(entry.text.lowercased()) : entry.text == name
    case .modelOpt, .parts: name.contains(entry.text)
    // Every entry is a pattern.
    case .patterns: false
    }
  }
}

extension EngineModule {
  /// The names by which compressed-tensors asks for the scheme of experts.
  func probes(of name: String) -> [String] {
    ["gate_proj", "up_proj", "down_proj"].map { "\(name).0.\($0)" }
  }
}
