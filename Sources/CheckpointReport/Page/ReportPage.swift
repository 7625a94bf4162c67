package import ByteStreams
internal import Checkpoint
internal import Inspection
package import TensorFormats

#if canImport(FoundationEssentials)
internal import FoundationEssentials
#else
internal import Foundation
#endif

/// A report as one self-contained HTML file: style, script, drawings and figures are inside, it makes no network
/// requests, and its security policy allows no script but its own.
package struct ReportPage {
  private let contents: ReportContents
  /// The heat maps, drawn in the order of the page's data.
  private let byLayer: FigureGrid?
  private let byExpert: [FigureGrid]

  package init(_ contents: ReportContents) {
    self.contents = contents
    byLayer = contents.errors?.byLayer
    byExpert = contents.errors?.byExpert ?? []
  }

  /// The mark near the beginning of a file by which reports are recognised.
  private static let mark = "<meta name=\"generator\" content=\"step3-inspect report\">\n"

  /// Whether a file is a report made by this tool, and so may be replaced.
  ///
  /// - Throws: `.inputOutput` if it cannot be read.
  package static func isReport(_ file: any ByteSource) throws(CheckpointError) -> Bool {
    let beginning = try file.readBytes(0..<min(file.byteCount, 2048))
    return String(decoding: beginning, as: UTF8.self).contains(mark)
  }

  /// The file.
  package var html: [UInt8] {
    var page = Markup()
    page.raw("<!DOCTYPE html>\n")
    page.element("html", "lang=\"en\"") { html in
      html.raw("\n")
      html.element("head") { head in writeHead(to: &head) }
      html.raw("\n")
      html.element("body") { body in
        body.element("main") { main in sections(&main) }
        body.raw("<div id=\"tip\"></div>\n")
        // Data first: the script reads it.
        body.element("script", "id=\"data\" type=\"application/json\"") { $0.raw(data.text) }
        body.raw("\n")
        body.element("script") { $0.raw(PageScript.text) }
      }
    }
    page.raw("\n")
    return Array(page.source.utf8)
  }

  private var data: PageData {
    PageData(contents, grids: (byLayer.map { [("weight", $0)] } ?? []) + byExpert.map { ("expert", $0) })
  }

  private func writeHead(to head: inout Markup) {
    head.raw("<meta charset=\"utf-8\">\n")
    let policy =
      "default-src 'none'; style-src '\(Self.source(PageStyle.text))'; script-src '\(Self.source(PageScript.text))'"
    head.raw("<meta http-equiv=\"Content-Security-Policy\" content=\"\(policy)\">\n")
    head.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
    head.raw(Self.mark)
    head.element("title", text: "\(contents.title) - step3-inspect report")
    head.raw("\n")
    head.element("style") { $0.raw(PageStyle.text) }
  }

  /// A script or style sheet as a security policy names it: by its SHA-256.
  private static func source(_ text: String) -> String {
    "sha256-\(Data(Digest.sha256(of: Array(text.utf8)).bytes).base64EncodedString())"
  }

  private func sections(_ main: inout Markup) {
    OverviewSection(contents).write(to: &main)
    BytesSection(contents).write(to: &main)
    if let cut = contents.cut { CutSection(cut, hiddenSize: contents.hiddenSize).write(to: &main) }
    if let errors = contents.errors {
      ErrorsSection(errors, byLayer: byLayer, byExpert: byExpert).write(to: &main)
    }
    if let logits = contents.logits { LogitsSection(logits).write(to: &main) }
    TensorsSection(contents).write(to: &main)
    main.element("footer") { footer in
      footer.text(
        "Made by step3-inspect report, step3-toolkit \(contents.tool). Sizes are in units of 1000; shapes are row-major, "
          + "outermost first, for GGUF too. This file is self-contained and loads nothing.")
    }
  }
}
