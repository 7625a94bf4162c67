internal import ArgumentParser
internal import CommandSupport

/// How results are written for people.
struct ReportStyle: ParsableArguments {
  @Flag(name: .long, help: "Write tables in Markdown, as issues and model cards take them.")
  var markdown = false

  /// - Throws: `ValidationError` if JSON is asked for, too.
  func check(_ common: CommonOptions) throws {
    if markdown, common.json {
      throw ValidationError("--markdown and --json are two forms of one output; choose one.")
    }
  }

  /// A table that fits the terminal, or one in Markdown.
  func table(_ table: TextTable, _ common: CommonOptions) -> String {
    markdown
      ? table.markdown() : table.rendered(width: StandardStream.output.columns, heading: common.heading)
  }

  /// Lines of facts and their values.
  func facts(_ rows: [(String, String)]) -> String {
    markdown ? MarkdownText.facts(rows) : keyValueText(rows)
  }

  /// What stands above the report on one of several paths, as `head` and `tail` write it.
  func title(_ path: String) -> String {
    markdown ? MarkdownText.heading(path) : "==> \(path.escapingControlCharacters) <==\n"
  }

  /// One of several names that are listed.
  func item(_ name: String, _ rest: String = "") -> String {
    (markdown ? "- \(MarkdownText.code(name))" : "  \(name.escapingControlCharacters)") + rest + "\n"
  }

  /// What stands above a list of names.
  func caption(_ text: String) -> String { markdown ? text + "\n\n" : text + "\n" }

  /// A name in a sentence.
  func name(_ text: String) -> String {
    markdown ? MarkdownText.inline(text) : text.escapingControlCharacters
  }
}
