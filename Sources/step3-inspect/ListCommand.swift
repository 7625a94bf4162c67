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
      Sums and the totals per role are those of the listed tensors. Parameters are counted without scale tensors; a \
      block-quantised tensor counts its elements. Shapes are row-major, outermost first, for GGUF too. Sizes are in \
      units of 1000.
      """)

  @OptionGroup var input: CheckpointArgument
  @OptionGroup var names: NameFilter

  @Option(name: .long, help: "Only tensors of this role.")
  var role: TensorRole?

  @Option(name: .long, help: "The order of the tensors.")
  var sort: TensorSelection.Order = .file

  @Flag(name: .long, help: "Only the sums, not the tensors.")
  var summary = false

  @OptionGroup var common: CommonOptions

  func run() async throws {
    let checkpoint = try input.open(common)
    let selection = TensorSelection(matches: try names.matcher(), role: role, order: sort)
    let listing = try TensorListing(of: checkpoint, selection: selection)
    try common.printReport(listing) { text(listing) }
  }

  private func text(_ listing: TensorListing) -> String {
    let width = StandardStream.output.columns
    var text = overview(listing)
    if !summary, !listing.tensors.isEmpty {
      text += "\n" + tensorTable(listing).rendered(width: width, heading: common.heading)
    }
    if listing.tensors.isEmpty { text += "\nno tensor is listed\n" }
    return text + "\n" + roleTable(listing).rendered(width: width, heading: common.heading)
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
    return keyValueText(rows)
  }

  private func tensorTable(_ listing: TensorListing) -> TextTable {
    // The files of a partition set lie in the directories of its parts, whose tensors have the same names.
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
