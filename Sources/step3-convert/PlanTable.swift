import Checkpoint
import CommandSupport
import ShardPlanning
import TensorFormats

/// A plan for people: a table of each part, what was decided on the way, totals.
struct PlanTable {
  let plan: ShardPlan

  init(_ plan: ShardPlan) { self.plan = plan }

  func rendered(width: Int?) -> String {
    var text = "\(plan.source.architecture ?? "unknown architecture"), \(plan.source.tensorCount) tensors, "
    text +=
      "\(ByteSize(bytes: plan.sourceBytes).decimal) in \(plan.source.files.count) \(plan.source.format.rawValue) "
    text += plan.source.files.count == 1 ? "file\n" : "files\n"
    for part in plan.parts { text += "\n" + describe(part, width: width) }
    text += notes
    let ratio = plan.sourceBytes == 0 ? 0 : Double(plan.outputBytes) / Double(plan.sourceBytes)
    text += "\nTotal: \(ByteSize(bytes: plan.outputBytes).decimal) in \(plan.files.count) "
    text += plan.files.count == 1 ? "file" : "files"
    text +=
      ", \(decimal(plan.bitsPerWeight, 2)) bits per weight, \(decimal(ratio * 100, 1)) % of the source\n"
    return text
  }

  private func describe(_ part: ShardPlan.Part, width: Int?) -> String {
    var title = part.directory.isEmpty ? "Output" : "\(part.directory)/"
    if part.ranks > 1 { title += " (\(part.role.rawValue) \(part.rank + 1) of \(part.ranks))" }
    var table = TextTable([
      TextTable.Column("role"), TextTable.Column("type"), TextTable.Column("tensors", .right),
      TextTable.Column("parameters", .right), TextTable.Column("bytes", .right),
    ])
    struct Group: Hashable {
      let role: TensorRole
      let type: ElementType
    }
    let groups = Dictionary(grouping: part.tensors) { Group(role: $0.role, type: $0.elementType) }
    let order = Dictionary(uniqueKeysWithValues: TensorRole.allCases.enumerated().map { ($1, $0) })
    for (group, tensors) in groups.sorted(by: {
      (order[$0.key.role] ?? 0, $0.key.type.rawValue) < (order[$1.key.role] ?? 0, $1.key.type.rawValue)
    }) {
      table.append([
        group.role.rawValue, group.type.rawValue, "\(tensors.count)",
        "\(tensors.reduce(0) { $0 + $1.shape.elementCount })",
        ByteSize(bytes: tensors.reduce(0) { $0 + $1.bytes }).decimal,
      ])
    }
    let files = part.files.count == 1 ? "1 file" : "\(part.files.count) files"
    return "\(title): \(files), \(ByteSize(bytes: part.bytes).decimal)\n" + table.rendered(width: width)
  }

  /// What a reader should know before starting: stored twice, stored otherwise than asked, not stored.
  private var notes: String {
    var text = ""
    if !plan.fallbacks.isEmpty {
      text += "\nStored otherwise than the recipe asked:\n"
      let groups = Dictionary(grouping: plan.fallbacks) { "\($0.wanted) -> \($0.stored): \($0.reason)" }
      for (reason, tensors) in groups.sorted(by: { $0.key < $1.key }) {
        text +=
          "  \(reason) (\(tensors.count): \(tensors[0].tensor.printable)\(tensors.count > 1 ? ", ..." : ""))\n"
      }
    }
    if !plan.replicated.isEmpty {
      text += "\nIn several parts: \(plan.replicated.count) tensors (\(plan.replicated[0].reason))\n"
    }
    if !plan.absorbed.isEmpty {
      text += "\nNot stored by themselves: \(plan.absorbed.count) tensors (\(plan.absorbed[0].reason))\n"
    }
    return text
  }
}

/// A number with that many decimals.
func decimal(_ value: Double, _ places: Int) -> String {
  var scale = 1.0
  for _ in 0..<places { scale *= 10 }
  let rounded = (value * scale).rounded() / scale
  let text = "\(rounded)"
  guard let point = text.firstIndex(of: "."), places > 0 else { return String(text.prefix { $0 != "." }) }
  let digits = text.distance(from: point, to: text.endIndex) - 1
  return digits >= places ? text : text + String(repeating: "0", count: places - digits)
}
