package import ArgumentParser
internal import JSON
internal import TensorFormats

/// A command line that makes no sense, said so that the next one does.
package struct WrongUsage {
  /// What is wrong.
  package let message: String
  /// What the option or argument concerned is for; `nil` if none is.
  package let help: String?
  /// The form that is wanted, and where there is more.
  package let usage: String
  /// The subcommand that was probably meant, as a question.
  package let question: String?

  /// Takes an error of the argument parser apart.
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

  /// `did you mean the subcommand list?`: where the first argument is neither a subcommand nor anything else that there
  /// is. Without that it is taken for an argument of the usual subcommand.
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

  /// The library proposes any option of three different letters; only slips of the keyboard are left.
  private static func withoutWrongSuggestion(_ message: String) -> String {
    let parts = message.split(separator: "'", omittingEmptySubsequences: false)
    guard parts.count == 5, parts[0] == "Unknown option ", parts[2] == ". Did you mean " else {
      return message
    }
    let (wrong, proposed) = (String(parts[1]), String(parts[3]))
    return Suggestion.nearest(to: wrong, among: [proposed]).isEmpty ? "Unknown option '\(wrong)'" : message
  }

  /// For a person.
  package func text(of tool: String) -> String {
    var lines = ["\(tool): error: \(message)"]
    if let question { lines.append(question) }
    if let help { lines.append(help) }
    return (lines + [usage]).joined(separator: "\n").escapingControlCharacters(except: "\n") + "\n"
  }

  /// As every other error with `--json`: one line.
  package var jsonLine: String {
    let remedy = [question, help, usage].compactMap(\.self).joined(separator: "\n")
    return ToolFailure(CheckpointError(.invalidRequest, message, remedy: remedy))?.jsonLine ?? ""
  }
}
