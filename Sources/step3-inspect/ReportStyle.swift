internal import ArgumentParser
internal import CommandSupport

/// How results are printed as text.
struct ReportStyle: ParsableArguments {
  @Flag(name: .long, help: "Write tables in Markdown, for issues and model cards.")
  var markdown = false

  /// - Throws: `ValidationError` if JSON is asked for, too.
  func check(_ common: CommonOptions) throws {
    if markdown, common.json {
      throw ValidationError("--markdown and --json are mutually exclusive.")
    }
  }

  /// A table that fits the terminal, or a Markdown one.
  func table(_ table: TextTable, _ common: CommonOptions) -> String {
    markdown
      ? table.markdown() : table.rendered(width: StandardStream.output.columns, heading: common.heading)
  }

  /// Lines of names and values.
  func facts(_ rows: [(String, String)]) -> String {
    markdown ? MarkdownText.facts(rows) : keyValueText(rows)
  }

  /// The heading of the report on one of several paths, in the style of `head` and `tail`.
  func title(_ path: String) -> String {
    markdown ? MarkdownText.heading(path) : "==> \(path.escapingControlCharacters) <==\n"
  }

  /// One item of a list of names.
  func item(_ name: String, _ rest: String = "") -> String {
    (markdown ? "- \(MarkdownText.code(name))" : "  \(name.escapingControlCharacters)") + rest + "\n"
  }

  /// The caption of a list of names.
  func caption(_ text: String) -> String { markdown ? text + "\n\n" : text + "\n" }

  /// A name within a sentence.
  func name(_ text: String) -> String {
    markdown ? MarkdownText.inline(text) : text.escapingControlCharacters
  }
}
