internal import ArgumentParser
internal import Checkpoint
internal import CommandSupport
internal import Inspection
internal import TensorFormats

/// `step3-inspect list`
struct ListCommand: ToolCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List the tensors with their shapes, types, sizes and roles (the default).",
    discussion: """
      Sums and the totals per role cover the listed tensors. Parameters are counted without scale tensors; a \
      block-quantised tensor counts its elements. Shapes are row-major, outermost first, for GGUF too. Sizes are in \
      units of 1000. If one of several paths cannot be read, the others are still listed, and the exit status is \
      that of the first failure.
      """)

  @OptionGroup var input: CheckpointArguments
  @OptionGroup var names: NameFilter

  @Option(name: .long, help: "Only tensors of this role.")
  var role: TensorRole?

  @Option(name: .long, help: "The order of the tensors.")
  var sort: TensorSelection.Order = .file

  @Flag(name: .long, help: "Print only the sums, not the tensors.")
  var summary = false

  @Flag(
    name: .long,
    help: "One row for tensors whose names differ only in numbers, such as layers and experts.")
  var fold = false

  @OptionGroup var style: ReportStyle
  @OptionGroup var common: CommonOptions

  func validate() throws { try style.check(common) }

  func run() async throws {
    let selection = TensorSelection(matches: try names.matcher(), role: role, order: sort)
    if fold {
      try await input.report(as: .list, common, style: style) { checkpoint in
        TensorListing.Folded(try TensorListing(of: checkpoint, selection: selection))
      } words: {
        text($0.listing, foldedTable($0))
      }
    } else {
      try await input.report(as: .list, common, style: style) { checkpoint in
        try TensorListing(of: checkpoint, selection: selection)
      } words: {
        text($0, tensorTable($0))
      }
    }
  }

  private func text(_ listing: TensorListing, _ table: TextTable) -> String {
    var text = overview(listing)
    if !summary, !listing.tensors.isEmpty { text += "\n" + style.table(table, common) }
    if listing.tensors.isEmpty { text += "\nno tensors listed\n" }
    return text + "\n" + style.table(roleTable(listing), common)
  }

  private func overview(_ listing: TensorListing) -> String {
    let files = listing.files.reduce(0) { $0 + $1.bytes }
    let types = Set(listing.tensors.map(\.dtype.rawValue)).sorted().joined(separator: ", ")
    let rows = [
      ("path", listing.path),
      ("format", "\(listing.format.rawValue), \(counted(listing.files.count, "file")), \(size(files))"),
      ("architecture", listing.architecture ?? "not stated"),
      ("tensors", counted(listing.tensors.count, "tensor") + (types.isEmpty ? "" : " of \(types)")),
      ("parameters", "\(grouped(listing.totals.parameters)) in \(size(listing.totals.bytes))"),
    ]
    return style.facts(rows)
  }

  private func tensorTable(_ listing: TensorListing) -> TextTable {
    // The files of a partition set are in its parts' directories, and tensor names repeat across parts.
    let showsParts = listing.files.contains { $0.path.contains("/") }
    var table = TextTable(
      [
        .init("tensor", wraps: true), .init("type"), .init("shape", shrinks: true), .init("size", .right),
        .init("role"),
      ] + (showsParts ? [.init("part")] : []))
    for tensor in listing.tensors {
      let row = [
        tensor.name, tensor.dtype.rawValue, shapeText(tensor.shape), size(tensor.bytes), tensor.role.rawValue,
      ]
      table.append(row + (showsParts ? [part(of: tensor.file)] : []))
    }
    return table
  }

  private func foldedTable(_ folded: TensorListing.Folded) -> TextTable {
    let showsParts = folded.rows.contains { $0.part != nil }
    var table = TextTable(
      [
        .init("count", .right), .init("tensor", wraps: true), .init("type"), .init("shape", shrinks: true),
        .init("size", .right), .init("role", isOptional: true),
      ] + (showsParts ? [.init("part")] : []))
    for tensors in folded.rows {
      let row = [
        "\(tensors.count) ×", tensors.name, tensors.dtype.rawValue, shapeText(tensors.shape),
        size(tensors.bytes),
        tensors.role.rawValue,
      ]
      table.append(row + (showsParts ? [tensors.part ?? ""] : []))
    }
    return table
  }

  private func roleTable(_ listing: TensorListing) -> TextTable {
    var table = TextTable([
      .init("role"), .init("tensors", .right), .init("parameters", .right), .init("size", .right),
      .init("share", .right),
    ])
    func row(_ name: String, _ totals: TensorListing.Totals) -> [String] {
      let share = listing.totals.bytes > 0 ? Double(totals.bytes) / Double(listing.totals.bytes) : 0
      return [
        name, grouped(totals.tensors), grouped(totals.parameters), size(totals.bytes), percentage(share),
      ]
    }
    for (role, totals) in listing.roles { table.append(row(role.rawValue, totals)) }
    table.append(row("total", listing.totals))
    return table
  }
}
