/// A list of modules that are not quantised, matched as one engine does for one method.
struct ModuleList {
  /// How entries are compared with names.
  enum Style {
    /// `quant_method` fp8 and mxfp8: whole names.
    case exact
    /// compressed-tensors: whole names, or `re:` and a regular expression.
    case compressedTensors
    /// The targets of compressed-tensors: likewise, but experts go by the weights of the first in both engines.
    case targets
    /// ModelOpt: parts of names, or wildcards.
    case modelOpt
    /// AWQ: parts of names.
    case parts
    /// GPTQ: regular expressions.
    case patterns
  }

  /// Whether the modules of a layer are in the list.
  enum Answer { case yes, no, mixed }

  struct Entry {
    let text: String
    let pattern: NamePattern?
  }

  let style: Style
  let engine: Engine
  let isMultimodal: Bool
  private(set) var entries: [Entry] = []
  /// Entries that could not be read.
  private(set) var unreadable: [String] = []
  /// What all patterns together may cost, so that a hostile list does not keep anyone busy.
  private static let mostWork = 50_000
  private var work = 0

  init(_ texts: [String], style: Style, engine: Engine, isMultimodal: Bool) {
    self.style = style
    self.engine = engine
    self.isMultimodal = isMultimodal
    for text in texts { add(text) }
  }

  private mutating func add(_ text: String) {
    switch style {
    case .exact where engine == .sglang:
      let base = text.hasPrefix("model.") ? String(text.dropFirst(6)) : text
      entries += [base, "model.\(base)"].map { Entry(text: $0, pattern: nil) }
    case .exact, .parts: append(renamed(text), nil)
    case .compressedTensors, .targets:
      guard text.hasPrefix("re:") else { return append(renamed(text), nil) }
      guard let pattern = NamePattern(String(text.dropFirst(3))) else { return unreadable.append(text) }
      append(text, pattern)
    case .modelOpt:
      // vLLM takes `module*` for the module and everything below it.
      let isTree = engine == .vllm && text.count >= 2 && text.hasSuffix("*") && !text.hasSuffix(".*")
      for text in isTree ? [String(text.dropLast()), text.dropLast() + ".*"] : [text] {
        let name = renamed(text)
        guard name.contains("*") || name.contains("?") || name.contains("[") else {
          append(name, nil)
          continue
        }
        guard let pattern = NamePattern(wildcard: name) else { return unreadable.append(text) }
        append(name, pattern)
      }
    case .patterns:
      guard let pattern = NamePattern(text) else { return unreadable.append(text) }
      append(text, pattern)
    }
  }

  private mutating func append(_ text: String, _ pattern: NamePattern?) {
    work += pattern?.cost ?? 0
    guard work <= Self.mostWork else { return unreadable.append(text) }
    entries.append(Entry(text: text, pattern: pattern))
  }

  /// The entry as vLLM's vision-language model renames the published names.
  private func renamed(_ text: String) -> String {
    guard engine == .vllm, isMultimodal, text.hasPrefix("model.") || text.hasPrefix("lm_head.") else {
      return text
    }
    return "language_model.\(text)"
  }

  /// Whether the engine leaves a module as it is.
  func contains(_ module: EngineModule) -> Answer {
    let name = module.name(in: engine, isMultimodal: isMultimodal)
    // vLLM's compressed-tensors asks for the first expert's projections, not for the module.
    if module.kind == .experts, style == .targets || (style == .compressedTensors && engine == .vllm) {
      return combined(module.probes(of: name).map { matches($0, module) })
    }
    if engine == .vllm { return matches(name, module) ? .yes : .no }
    if matches(name, module) { return .yes }
    return module.isFused ? combined(module.members.map { matches($0.stem, module) }) : .no
  }

  private func combined(_ answers: [Bool]) -> Answer {
    answers.allSatisfy { $0 } ? .yes : answers.contains(true) ? .mixed : .no
  }

  private func matches(_ name: String, _ module: EngineModule) -> Bool {
    switch style {
    case .exact where engine == .vllm && module.kind == .experts:
      entries.contains { $0.text.contains("experts") && $0.text.contains(name) }
    case .exact: entries.contains { $0.text == name }
    case .compressedTensors:
      entries.contains { entry in
        if let pattern = entry.pattern { return pattern.matchesStart(of: name) }
        // SGLang looks for plain entries anywhere in the name, whatever their case.
        return engine == .sglang ? name.lowercased().contains(entry.text.lowercased()) : entry.text == name
      }
    case .targets:
      entries.contains { $0.pattern?.matchesStart(of: name) ?? ($0.text == name) }
    case .modelOpt:
      entries.contains { entry in
        if let pattern = entry.pattern { return pattern.matchesStart(of: name) }
        return name.contains(entry.text)
      }
    case .parts: entries.contains { name.contains($0.text) }
    case .patterns: entries.contains { $0.pattern?.matchesStart(of: name) ?? false }
    }
  }
}

extension EngineModule {
  /// The names by which compressed-tensors asks for the scheme of experts.
  func probes(of name: String) -> [String] {
    ["gate_proj", "up_proj", "down_proj"].map { "\(name).0.\($0)" }
  }
}
