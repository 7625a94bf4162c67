internal import Checkpoint
internal import Comparison
internal import Inspection
internal import TensorFormats
internal import Verification

/// The overview, as a line of large figures.
struct OverviewSection {
  private let contents: ReportContents

  init(_ contents: ReportContents) { self.contents = contents }

  func write(to page: inout Markup) {
    let listing = contents.listing
    page.element("header") { header in
      header.element("h1", text: contents.title)
      header.element(
        "button", "id=\"theme\" class=\"scripted\" type=\"button\" hidden", text: "light or dark")
    }
    page.element("p", text: listing.path)
    let files = listing.files.reduce(0) { $0 + $1.bytes }
    let types = Dictionary(grouping: contents.entries, by: \.dtype).mapValues {
      $0.reduce(0) { $0 + $1.bytes }
    }
    let main = types.max { ($0.value, $1.key.rawValue) < ($1.value, $0.key.rawValue) }?.key.rawValue ?? "none"
    var cards = [
      (NumberText.decimalSize(files), "\(listing.format.rawValue), \(counted(listing.files.count, "file"))"),
      (
        NumberText.inWords(listing.totals.parameters),
        "\(NumberText.grouped(listing.totals.parameters)) parameters"
      ),
      (NumberText.grouped(listing.totals.tensors), "tensors"),
      (main, types.count > 1 ? "and \(counted(types.count - 1, "other type"))" : "the only type"),
    ]
    if listing.totals.parameters > 0 {
      let bits = Double(listing.totals.bytes) * 8 / Double(listing.totals.parameters)
      cards.insert((NumberText.trimmed(bits, 3), "bits per weight"), at: 2)
    }
    if let architecture = listing.architecture { cards.append((architecture, "architecture")) }
    page.element("div", "class=\"cards\"") { row in
      for (figure, caption) in cards {
        row.element("div") { card in
          card.element("b", text: figure)
          card.element("span", text: caption)
        }
      }
    }
  }
}

/// `1 file`, `1,663 tensors`
func counted(_ number: Int, _ noun: String) -> String {
  "\(NumberText.grouped(number)) \(noun)\(number == 1 ? "" : "s")"
}

/// Where the bytes are.
struct BytesSection {
  private let contents: ReportContents

  init(_ contents: ReportContents) { self.contents = contents }

  func write(to page: inout Markup) {
    page.element("h2", text: "Where the bytes are")
    page.element(
      "p",
      text:
        "Areas are stored bytes: by role, in it by layer (the numbers), in it by tensor. Click one for its figures."
    )
    page.raw(TreemapDrawing(contents.entries).markup)
    let total = max(1, contents.listing.totals.bytes)
    page.element("div", "class=\"legend\"") { legend in
      for (role, totals) in contents.listing.roles {
        legend.element("span") { item in
          item.raw("<i class=\"role-\(role.rawValue)\"></i>")
          item.text(
            "\(role.rawValue) \(NumberText.decimalSize(totals.bytes)), "
              + NumberText.decimals(Double(totals.bytes) * 100 / Double(total), 1) + " %")
        }
      }
    }
    guard let bars = LayerBars(contents.entries) else { return }
    page.element("h3", text: "By layer")
    page.raw(bars.markup)
  }
}

/// How the model is partitioned, or would be.
struct CutSection {
  private let cut: CutFigures
  private let hiddenSize: Int?

  init(_ cut: CutFigures, hiddenSize: Int?) {
    self.cut = cut
    self.hiddenSize = hiddenSize
  }

  func write(to page: inout Markup) {
    page.element("h2", text: "Attention and experts")
    page.element(
      "p",
      text: cut.isMade
        ? "The parts of this partition set, with what each holds."
        : "The checkpoint is not partitioned. This is what step3-convert --partition afd would put on each side, with the routers on "
          + "attention.")
    page.raw(CutDrawing(cut, hiddenSize: hiddenSize).markup)
    if cut.unplaced > 0 {
      page.element(
        "p",
        text:
          "\(NumberText.decimalSize(cut.unplaced)) are in tensors that the model's description does not know."
      )
    }
  }
}

/// The errors of weights relative to their source.
struct ErrorsSection {
  private let errors: ErrorFigures
  private let byLayer: FigureGrid?
  private let byExpert: [FigureGrid]

  init(_ errors: ErrorFigures, byLayer: FigureGrid?, byExpert: [FigureGrid]) {
    self.errors = errors
    self.byLayer = byLayer
    self.byExpert = byExpert
  }

  func write(to page: inout Markup) {
    page.element("h2", text: "What quantisation costs")
    page.element("p", text: origin)
    if let report = errors.report {
      page.element(
        "p", "class=\"verdict \(report.ok ? "good" : "bad")\"", text: verdict(of: report.findings.count))
      findings(report.findings, in: &page)
      formats(report.formats, in: &page)
    }
    let grids = (byLayer.map { [$0] } ?? []) + byExpert
    let maps = grids.enumerated().compactMap { number, grid in HeatMap(grid, number: number) }
    page.element(
      "p",
      text: maps.isEmpty
        ? "No weight of a layer has changed, so there is nothing to draw."
        : "Colours are the root of the squared error over the squared source, on a separate logarithmic scale for each drawing."
    )
    for map in maps {
      page.element("h3", text: map.grid.title)
      page.raw(map.legend)
      page.raw(map.markup)
    }
    others(in: &page)
  }

  private var origin: String {
    switch errors.origin {
    case .comparison(let source):
      "Compared with \(source), value by value: \(counted(errors.weights.count, "weight")) changed, "
        + "\(NumberText.grouped(errors.exact)) exact."
    case .manifest(let digest):
      "As measured while it was written, from the manifest with the root digest \(digest): "
        + "\(counted(errors.weights.count, "tensor")) changed, \(NumberText.grouped(errors.exact)) exact. No weights were "
        + "read for this: step3-verify checksums says whether the files are those of the manifest."
    }
  }

  private func verdict(of count: Int) -> String {
    count == 0
      ? "Everything is present, and no error is larger than its format explains."
      : "\(counted(count, "finding")): not everything is within its format's error."
  }

  private func findings(_ findings: [TensorReport.Finding], in page: inout Markup) {
    guard !findings.isEmpty else { return }
    let most = 20
    Table(
      ["weight", "part", "finding"],
      findings.prefix(most).map { [$0.tensor, $0.part ?? "", $0.message] }, names: [0, 2]
    ).write(to: &page)
    guard findings.count > most else { return }
    page.element("p", text: "and \(findings.count - most) more, which step3-verify tensors lists")
  }

  private func formats(_ formats: [TensorReport.FormatSummary], in page: inout Markup) {
    Table(
      ["from", "to", "weights", "relative error", "worst", "usual", "worst weight"],
      formats.map { format in
        [
          format.from, format.to, NumberText.grouped(format.tensors), NumberText.percent(format.relativeRMSE),
          NumberText.percent(format.worstRelativeRMSE),
          format.expected.map {
            "\(NumberText.percent(min($0.gaussian, $0.heavyTailed))) to \(NumberText.percent(max($0.gaussian, $0.heavyTailed)))"
          } ?? "none",
          format.worstTensor ?? "",
        ]
      }, names: [6], numbers: [2, 3, 4, 5]
    ).write(to: &page)
  }

  private func others(in page: inout Markup) {
    let others = errors.others.sorted { ($0.relativeRMSE, $1.name) > ($1.relativeRMSE, $0.name) }.prefix(20)
    guard !others.isEmpty else { return }
    page.element("h3", text: "Outside the language model's layers, the largest first")
    Table(
      ["weight", "relative error", "stored as"],
      others.map { [$0.name, NumberText.percent($0.relativeRMSE), $0.to ?? ""] }, names: [0], numbers: [1]
    ).write(to: &page)
  }
}

/// The results of the logits checks.
struct LogitsSection {
  private let logits: LogitsFigures

  init(_ logits: LogitsFigures) { self.logits = logits }

  func write(to page: inout Markup) {
    page.element("h2", text: "Logits")
    var figures = [
      ("tokens compared", NumberText.grouped(logits.tokens)),
      (
        "mean KL divergence",
        NumberText.significant(logits.meanKL)
          + (logits.standardError.map { " ± \(NumberText.significant($0))" } ?? "")
      ),
      ("largest KL divergence", NumberText.significant(logits.largestKL)),
      ("same top-1 token", NumberText.percent(logits.top1Agreement)),
    ]
    if let reference = logits.referencePerplexity, let candidate = logits.candidatePerplexity {
      figures.append(
        (
          "perplexity, reference and candidate",
          "\(NumberText.significant(reference)), \(NumberText.significant(candidate))"
        ))
    }
    Table(["measure", "value"], figures.map { [$0.0, $0.1] }, numbers: [1]).write(to: &page)
    if !logits.divergences.isEmpty {
      page.element("h3", text: "KL divergence of each token")
      page.raw(
        Chart(
          kind: .points, title: "KL divergence of each token", axis: "tokens in the order of the text",
          values: logits.divergences
        )
        .markup)
    }
    if !logits.layers.isEmpty {
      page.element("h3", text: "Error that each layer adds, with its limit")
      page.raw(
        Chart(
          kind: .bars, title: "Relative error of each layer", axis: "", values: logits.layers.map(\.error),
          labels: logits.layers.map { "\($0.layer)" },
          limits: logits.layers.map(\.limit),
          faults: Set(logits.layers.indices.filter { !logits.layers[$0].ok })
        ).markup)
    }
    guard !logits.experts.isEmpty else { return }
    page.element("h3", text: "Choices of experts that differ, by layer")
    page.raw(
      Chart(
        kind: .bars, title: "Share of choices of experts that differ", axis: "",
        values: logits.experts.map { 1 - $0.agreement }, labels: logits.experts.map { "\($0.layer)" }
      ).markup)
  }
}

/// The list of tensors, which the script fills.
struct TensorsSection {
  private let contents: ReportContents

  init(_ contents: ReportContents) { self.contents = contents }

  func write(to page: inout Markup) {
    page.element("h2", text: "Tensors")
    page.element(
      "p",
      text: contents.hasValues
        ? "Values are those that the stored bytes decode to; scales in separate tensors are not applied."
        : "Only headers were read, so there are no figures of values.")
    page.raw(
      """
      <div class="tools scripted" hidden><input id="filter" type="search" placeholder="words of the name" \
      aria-label="Words of the name"><select id="role" aria-label="Role"><option value="">every role</option></select>\
      <span id="count"></span></div><div id="details"></div>
      """)
    page.raw("<noscript><p>The list of tensors needs the script in this file.</p></noscript>")
    page.element("div", "class=\"scroll\"") { scroll in
      scroll.element("table") { table in
        table.element("thead") { head in
          head.element("tr") { row in
            for (key, name, isNumber) in columns {
              row.element("th", "data-key=\"\(key)\"\(isNumber ? " class=\"number\"" : "")", text: name)
            }
          }
        }
        table.raw("<tbody id=\"tensors\"></tbody>")
      }
    }
    page.raw("<button id=\"more\" type=\"button\" hidden>show all</button>\n")
  }

  /// The script's index for each column.
  private var columns: [(Int, String, Bool)] {
    let always = [
      (0, "tensor", false), (1, "type", false), (2, "shape", false), (3, "size", true), (4, "role", false),
    ]
    return always
      + (contents.hasValues ? [(9, "smallest", true), (10, "largest", true), (11, "RMS", true)] : [])
  }
}

/// Rows of text.
private struct Table {
  private let head: [String]
  private let rows: [[String]]
  private let names: Set<Int>
  private let numbers: Set<Int>

  /// - Parameters:
  ///   - names: The columns that may wrap.
  ///   - numbers: The columns on the right.
  init(_ head: [String], _ rows: [[String]], names: Set<Int> = [], numbers: Set<Int> = []) {
    self.head = head
    self.rows = rows
    self.names = names
    self.numbers = numbers
  }

  func write(to page: inout Markup) {
    func attributes(_ column: Int) -> String {
      numbers.contains(column) ? "class=\"number\"" : names.contains(column) ? "class=\"name\"" : ""
    }
    page.element("div", "class=\"scroll\"") { scroll in
      scroll.element("table") { table in
        table.element("thead") {
          $0.element("tr") { row in
            for (column, name) in head.enumerated() { row.element("th", attributes(column), text: name) }
          }
        }
        table.element("tbody") { body in
          for cells in rows {
            body.element("tr") { row in
              for (column, cell) in cells.enumerated() { row.element("td", attributes(column), text: cell) }
            }
          }
        }
      }
    }
  }
}
