/// Text escaped for Markdown, in GitHub's dialect.
public enum MarkdownText {
  /// A text in a cell of a table or in a line of a list.
  ///
  /// Words and numbers are written as they are, everything else as code, where only a backtick ends the code and a bar
  /// ends the cell; a text with either of these, or with a backslash, which readers treat differently, has its
  /// punctuation written as character references.
  public static func inline(_ text: String) -> String {
    let text = text.escapingControlCharacters
    return text.isEmpty || isPlain(text) ? text : code(text)
  }

  /// A text as code, in any position.
  public static func code(_ text: String) -> String {
    let text = text.escapingControlCharacters
    let needsReferences =
      text.contains { "`|\\".contains($0) } || text.hasPrefix(" ") || text.hasSuffix(" ")
      || text.contains("  ")
    return needsReferences ? "<code>\(references(text))</code>" : "`\(text)`"
  }

  /// A heading of the second level.
  public static func heading(_ text: String) -> String { "## \(inline(text))\n" }

  /// A list of facts.
  public static func facts(_ rows: [(String, String)]) -> String {
    rows.map { "- **\($0)**: \(inline($1))\n" }.joined()
  }

  /// Whether a text is words and numbers with units, with no Markdown markup.
  private static func isPlain(_ text: String) -> Bool {
    let hasMarks = text.unicodeScalars.contains { scalar in
      switch scalar {
      case "a"..."z", "A"..."Z", "0"..."9", " ", ",", ".", "%", "×", "+", "-": false
      default: true
      }
    }
    // A bare link.
    return !hasMarks && !text.lowercased().contains("www.") && text.first != " " && text.last != " "
      && !text.contains("  ")
  }

  private static func references(_ text: String) -> String {
    text.unicodeScalars.map { scalar in
      switch scalar {
      case "a"..."z", "A"..."Z", "0"..."9": String(scalar)
      case _ where scalar.value >= 0x80: String(scalar)
      default: "&#\(scalar.value);"
      }
    }.joined()
  }
}

extension TextTable {
  /// The table in Markdown. Nothing is cut, broken or left out.
  public func markdown() -> String {
    func line(_ cells: [String]) -> String { "| " + cells.joined(separator: " | ") + " |\n" }
    return line(columns.map { MarkdownText.inline($0.title) })
      + line(columns.map { $0.alignment == .right ? "---:" : "---" })
      + rows.map { line($0.map(MarkdownText.inline)) }.joined()
  }
}
