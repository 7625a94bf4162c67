internal import TensorFormats

/// Completions for the end of a command line that is being typed.
///
/// The shells' scripts ask the tool itself (`---complete SHELL WORD...`), so that they offer exactly what it accepts:
/// options of the default subcommand without its name, recipes, formats, and tensor names from the headers of the
/// checkpoint on the line.
package struct CommandCompletion {
  /// The kind of paths that are valid besides `candidates`.
  package enum Paths: String, Sendable { case none, files, directories }

  /// One completion and its description.
  package struct Candidate: Hashable, Sendable {
    package let text: String
    package let meaning: String
  }

  package private(set) var paths = Paths.none
  package private(set) var candidates: [Candidate] = []

  private let shell: CompletionShell
  private let tensorNames: (String) -> [String]

  /// Completes the last of `words`, which may be empty.
  ///
  /// - Parameters:
  ///   - dump: The argument parser's description of the tool, as JSON.
  ///   - words: The words after the tool's name, up to the cursor.
  ///   - tensorNames: The names of the tensors of a checkpoint; empty if there is none.
  package init(
    dump: String, words: [String], shell: CompletionShell, tensorNames: @escaping (String) -> [String]
  ) {
    self.shell = shell
    self.tensorNames = tensorNames
    guard let tool = ToolDescription(dump: dump) else { return }
    complete(shell == .bash ? Self.joined(words) : words, tool)
  }

  /// For the scripts: the kind of paths, then a line for each candidate with its description after a tab.
  package var answer: String {
    ([paths.rawValue] + candidates.map { "\($0.text)\t\($0.meaning)".escapingControlCharacters(except: "\t") })
      .joined(separator: "\n") + "\n"
  }

  /// Bash takes `--to=gguf` for three words.
  private static func joined(_ words: [String]) -> [String] {
    var result: [String] = []
    for (index, word) in words.enumerated() {
      if word == "=", let last = result.last, last.hasPrefix("--") {
        result[result.count - 1] = last + "="
      } else if index > 0, words[index - 1] == "=", let last = result.last, last.hasSuffix("=") {
        result[result.count - 1] = last + word
      } else {
        result.append(word)
      }
    }
    return result
  }

  private mutating func complete(_ words: [String], _ tool: ToolDescription) {
    guard let current = words.last else { return }
    var given = Array(words.dropLast())
    var command = tool.defaultSubcommand.flatMap(tool.subcommand) ?? tool
    if let first = given.first {
      if first == "help" { return offer(subcommandsOf: tool, current) }
      if let named = tool.subcommand(first) {
        command = named
        given.removeFirst()
      }
    } else if !current.hasPrefix("-") {
      offer(subcommandsOf: tool, current)
    }
    let arguments = (command.arguments ?? []).filter(\.shouldDisplay)
    // Options given already, and the positions of words that are neither options nor values.
    var positionals: [String] = []
    var used: Set<String> = []
    var awaiting: ToolDescription.Argument?
    for word in given {
      if awaiting != nil {
        awaiting = nil
      } else if word.hasPrefix("-"), word.count > 1 {
        let name = word.prefix { $0 != "=" }
        guard let argument = arguments.first(where: { $0.spellings.contains(String(name)) }) else { continue }
        if !argument.isRepeating { used.formUnion(argument.spellings) }
        if argument.kind == .option, name.count == word.count { awaiting = argument }
      } else {
        positionals.append(word)
      }
    }
    if let awaiting { return offer(valuesOf: awaiting, current, before: "", of: positionals.first) }
    if current.hasPrefix("-") {
      guard let sign = current.firstIndex(of: "=") else {
        return offer(optionsOf: arguments.filter { used.isDisjoint(with: $0.spellings) }, current)
      }
      guard let argument = arguments.first(where: { $0.spellings.contains(String(current[..<sign])) }) else {
        return
      }
      // Bash replaces the text after the sign, others the whole word.
      let before = shell == .bash ? "" : String(current[...sign])
      let value = String(current[current.index(after: sign)...])
      return offer(valuesOf: argument, value, before: before, of: positionals.first)
    }
    let places = arguments.filter { $0.kind == .positional }
    guard
      let place = positionals.count < places.count
        ? places[positionals.count] : places.last(where: \.isRepeating)
    else { return }
    offer(valuesOf: place, current, before: "", of: positionals.first)
  }

  private mutating func offer(subcommandsOf tool: ToolDescription, _ current: String) {
    for command in tool.shownSubcommands where command.commandName.hasPrefix(current) {
      candidates.append(Candidate(text: command.commandName, meaning: firstSentence(command.abstract)))
    }
  }

  private mutating func offer(optionsOf arguments: [ToolDescription.Argument], _ current: String) {
    for argument in arguments {
      let names = argument.spellings.filter { $0.hasPrefix(current) }
      // The short name if there is no long one.
      guard let name = names.first(where: { $0.hasPrefix("--") }) ?? names.first else { continue }
      candidates.append(Candidate(text: name, meaning: firstSentence(argument.abstract)))
    }
  }

  private mutating func offer(
    valuesOf argument: ToolDescription.Argument, _ current: String, before: String, of checkpoint: String?
  ) {
    var texts = argument.allValues ?? argument.completionKind?.list?.values ?? []
    switch argument.valueName {
    case "recipe": paths = .files
    case "regex", "pattern", "pattern=type":
      let names = checkpoint.map { Self.moduleNames(in: tensorNames($0)) } ?? []
      texts = argument.valueName == "pattern=type" ? Self.assignments(of: current, to: names) : names
    default: break
    }
    if argument.completionKind?.file != nil { paths = .files }
    if argument.completionKind?.directory != nil { paths = .directories }
    for text in texts where text.lowercased().hasPrefix(current.lowercased()) {
      candidates.append(Candidate(text: before + text, meaning: ""))
    }
  }

  /// `moe.up_proj` of `model.layers.4.moe.up_proj.weight`: what tensor names of many layers have in common, once each,
  /// in checkpoint order.
  private static func moduleNames(in names: [String]) -> [String] {
    var seen: Set<String> = []
    var result: [String] = []
    for name in names {
      let components = name.split(separator: ".")
      let layer = components.lastIndex { $0.allSatisfy(\.isASCIIDigit) }
      var own = components[(layer.map { $0 + 1 } ?? 0)...]
      if own.count > 1, own.last == "weight" { own.removeLast() }
      let text = own.joined(separator: ".")
      if !text.isEmpty, seen.insert(text).inserted { result.append(text) }
    }
    return result
  }

  /// `pattern=TYPE`: the patterns, and after the sign the types.
  private static func assignments(of current: String, to names: [String]) -> [String] {
    guard let sign = current.lastIndex(of: "=") else { return names.map { $0 + "=" } }
    return ElementType.allCases.map { current[...sign] + $0.rawValue }
  }

  private func firstSentence(_ text: String?) -> String {
    guard let text else { return "" }
    return text.firstRange(of: ". ").map { String(text[..<$0.lowerBound]) }
      ?? (text.hasSuffix(".") ? String(text.dropLast()) : text)
  }
}

extension ToolDescription.Argument {
  fileprivate var spellings: [String] { (names ?? []).map(\.spelling) }
}

extension Character {
  fileprivate var isASCIIDigit: Bool { isASCII && isNumber }
}
