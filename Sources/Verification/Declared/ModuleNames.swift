internal import Patterns

/// A list of modules as configurations write them: names, beginnings of names, `re:` patterns and wildcards.
struct ModuleNames: Sendable {
  private let names: Set<String>
  private let patterns: [PythonPattern]
  private let areParts: Bool

  /// - Parameter areParts: Whether an entry matches every name that contains it.
  init(_ entries: [String], areParts: Bool = false) {
    self.areParts = areParts
    var names: Set<String> = []
    var patterns: [PythonPattern] = []
    for entry in entries {
      if entry.hasPrefix("re:") {
        if let pattern = try? PythonPattern(String(entry.dropFirst(3))) { patterns.append(pattern) }
      } else if entry.contains("*") {
        if let pattern = try? PythonPattern(shell: entry) { patterns.append(pattern) }
      } else {
        names.insert(entry)
      }
    }
    self.names = names
    self.patterns = patterns
  }

  func contain(_ module: String) -> Bool {
    if areParts, names.contains(where: { module.contains($0) }) { return true }
    var name = module[...]
    while true {
      if names.contains(String(name)) { return true }
      guard let dot = name.lastIndex(of: ".") else { break }
      name = name[..<dot]
    }
    // A pattern that takes too long matches nothing.
    return patterns.contains { (try? $0.matchesStart(of: module)) ?? false }
  }
}
