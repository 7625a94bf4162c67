package import ArgumentParser

/// The text of `tool --help`: the subcommands, and the options of the default one, which the library only shows for
/// `tool help subcommand`.
package enum RootHelp {
  /// Whether these arguments (without the tool's name) ask for it.
  package static func isAsked(by arguments: [String]) -> Bool {
    arguments == ["--help"] || arguments == ["-h"] || arguments == ["help"]
  }

  /// The help of a tool, wrapped at `columns`; `nil` for 80 or the terminal's.
  package static func text(of root: any ParsableCommand.Type, columns: Int? = nil) -> String {
    let whole = root.helpMessage(columns: columns)
    guard let usual = root.configuration.defaultSubcommand,
      let usage = whole.range(of: "\nUSAGE: "), let subcommands = whole.range(of: "\nSUBCOMMANDS:\n")
    else { return whole }
    let own = root.helpMessage(for: usual, columns: columns)
    guard let ownUsage = own.range(of: "\nUSAGE: "),
      let options = own.range(of: "\n\n", in: ownUsage.upperBound)
    else { return whole }
    let tool = root.configuration.commandName ?? root._commandName
    let name = usual.configuration.commandName ?? usual._commandName
    // The last line of the library's text says where to find more.
    return whole[..<usage.lowerBound] + "\n" + own[ownUsage.lowerBound..<options.lowerBound].dropFirst()
      + "\n       \(tool) <subcommand> ...\n" + whole[subcommands.lowerBound...].trimmedEnd
      + "\n\n  Without a subcommand, \(name) is run; these are its arguments and options.\n"
      + own[options.lowerBound...].dropFirst()
  }
}

extension String {
  /// Where `text` first occurs from `start` on.
  fileprivate func range(of text: String, in start: Index? = nil) -> Range<Index>? {
    self[(start ?? startIndex)...].firstRange(of: text)
  }
}

extension Substring {
  fileprivate var trimmedEnd: Substring {
    var text = self
    while text.last?.isWhitespace == true { text.removeLast() }
    return text
  }
}
