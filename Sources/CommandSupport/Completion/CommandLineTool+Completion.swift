internal import ArgumentParser
internal import Checkpoint
internal import Locations
internal import RemoteFiles

extension CommandLineTool {
  /// The output for a command line that asks for completion: a shell's script (`--generate-completion-script`), or
  /// candidates for the end of a line (`---complete`, which the scripts call); `nil` for any other command line.
  static func completion(_ arguments: [String], of root: any ParsableCommand.Type) -> String? {
    let tool = root.configuration.commandName ?? root._commandName
    if arguments.first == "---complete", arguments.count > 2 {
      guard let shell = CompletionShell(rawValue: arguments[1]) else { return nil }
      let completion = CommandCompletion(
        dump: root._dumpHelp(), words: Array(arguments[2...]), shell: shell, tensorNames: tensorNames)
      return completion.answer
    }
    let option = "--generate-completion-script"
    let name: String? =
      if arguments.count == 2, arguments[0] == option {
        arguments[1]
      } else if arguments.count == 1, arguments[0].hasPrefix(option + "=") {
        String(arguments[0].dropFirst(option.count + 1))
      } else if arguments == [option] {
        environment("SHELL")?.split(separator: "/").last.map(String.init)
      } else {
        nil
      }
    return name.flatMap(CompletionShell.init(rawValue:))?.script(for: tool)
  }

  /// Local headers only: a key press must not wait for a server.
  private static func tensorNames(_ path: String) -> [String] {
    guard !RemoteDirectory.isRemote(path), let checkpoint = try? Location(path).open() else { return [] }
    return checkpoint.tensors.map(\.name)
  }
}
