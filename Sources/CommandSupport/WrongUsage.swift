package import ArgumentParser
internal import JSON
internal import TensorFormats

/// A usage error, explained so that the next attempt works.
package struct WrongUsage {
  /// What is wrong.
  package let message: String
  /// The help of the option or argument concerned; `nil` if there is none.
  package let help: String?
  /// The expected usage, and where to find more.
  package let usage: String
  /// A "did you mean" for the subcommand.
  package let question: String?

  /// Analyses an error from the argument parser.
  ///
  /// - Parameter arguments: The command line, without the tool's name.
  package init(_ error: any Error, of root: any ParsableCommand.Type, arguments: [String]) {
    let message = root.message(for: error)
    let full = root.fullMessage(for: error)
    self.message = Self.withoutWrongSuggestion(message)
    let rest = full.firstRange(of: message).map { full[$0.upperBound...].drop(while: \.isNewline) } ?? ""
    let usage = rest.firstRange(of: "Usage: ")?.lowerBound ?? rest.startIndex
    let help = rest[..<usage].split(separator: "\n").joined(separator: "\n")
    self.help = help.isEmpty ? nil : help
    self.usage = String(rest[usage...])
    question = Self.question(of: root, arguments: arguments)
  }

  /// `did you mean the subcommand list?`: if the first argument is neither a subcommand nor an existing path. Otherwise
  /// it would be taken for an argument of the default subcommand.
  package static func question(of root: any ParsableCommand.Type, arguments: [String]) -> String? {
    let names = root.configuration.subcommands.filter { $0.configuration.shouldDisplay }.map {
      $0.configuration.commandName ?? $0._commandName
    }
    guard let first = arguments.first, !first.hasPrefix("-"), !names.contains(first),
      !first.contains(where: { "/.:".contains($0) })
    else { return nil }
    let nearest = Suggestion.nearest(to: first, among: names)
    return nearest.isEmpty ? nil : "did you mean the subcommand \(nearest.joined(separator: " or "))?"
  }

  /// The library suggests any option within three letters; keeps only likely typos.
  private static func withoutWrongSuggestion(_ message: String) -> String {
    let parts = message.split(separator: "'", omittingEmptySubsequences: false)
    guard parts.count == 5, parts[0] == "Unknown option ", parts[2] == ". Did you mean " else {
      return message
    }
    let (wrong, proposed) = (String(parts[1]), String(parts[3]))
    return Suggestion.nearest(to: wrong, among: [proposed]).isEmpty ? "Unknown option '\(wrong)'" : message
  }

  /// As text.
  package func text(of tool: String) -> String {
    var lines = ["\(tool): error: \(message)"]
    if let question { lines.append(question) }
    if let help { lines.append(help) }
    return (lines + [usage]).joined(separator: "\n").escapingControlCharacters(except: "\n") + "\n"
  }

  /// As one line of JSON, like every other error with `--json`.
  package var jsonLine: String {
    let remedy = [question, help, usage].compactMap(\.self).joined(separator: "\n")
    return ToolFailure(CheckpointError(.invalidRequest, message, remedy: remedy))?.jsonLine ?? ""
  }
}
