internal import Foundation

/// A command and its options, as the argument parser's `--experimental-dump-help` describes them: the parts that
/// completion needs.
struct ToolDescription: Decodable {
  let commandName: String
  let abstract: String?
  let shouldDisplay: Bool
  let defaultSubcommand: String?
  let subcommands: [ToolDescription]?
  let arguments: [Argument]?

  struct Argument: Decodable {
    enum Kind: String, Decodable { case positional, option, flag }

    struct Name: Decodable {
      let kind: String
      let name: String

      /// As typed on the command line.
      var spelling: String { kind == "long" ? "--\(name)" : "-\(name)" }
    }

    let kind: Kind
    let shouldDisplay: Bool
    let isRepeating: Bool
    let names: [Name]?
    let valueName: String?
    let allValues: [String]?
    let completionKind: Completion?
    let abstract: String?
  }

  /// The kind of value. Kinds that are not decoded here offer no completions.
  struct Completion: Decodable {
    struct Values: Decodable { let values: [String] }
    struct Empty: Decodable {}

    let list: Values?
    let file: Empty?
    let directory: Empty?
  }

  /// Reads a dump; `nil` if its form is unknown.
  init?(dump: String) {
    struct Document: Decodable { let command: ToolDescription }
    guard let document = try? JSONDecoder().decode(Document.self, from: Data(dump.utf8)) else { return nil }
    self = document.command
  }

  /// The subcommands shown to users, without the library's own `help`.
  var shownSubcommands: [ToolDescription] {
    (subcommands ?? []).filter { $0.shouldDisplay && $0.commandName != "help" }
  }

  /// The subcommand with this name.
  func subcommand(_ name: String) -> ToolDescription? { subcommands?.first { $0.commandName == name } }
}
