import Checkpoint
import CommandSupport
import Quantization
import ShardPlanning
import TensorFormats

/// A plan as text: a table for each kind of part, notes, memory per side and rank, totals.
struct PlanTable {
  let plan: ShardPlan

  init(_ plan: ShardPlan) { self.plan = plan }

  /// The width to use without a terminal.
  private static let usualWidth = 80

  func rendered(width: Int?) -> String {
    var text = "\(plan.source.architecture ?? "unknown architecture"), \(plan.source.tensorCount) tensors, "
    text +=
      "\(ByteSize(bytes: plan.sourceBytes).decimal) in \(plan.source.files.count) \(plan.source.format.rawValue) "
    text += plan.source.files.count == 1 ? "file\n" : "files\n"
    for group in groups { text += "\n" + describe(group, width: width) }
    if let budget = BudgetTable(plan) { text += "\n" + budget.rendered(width: width) }
    text += notes(width: width ?? Self.usualWidth)
    if plan.parts.count > 1 { text += "\n" + sides(width: width) }
    let ratio = plan.sourceBytes == 0 ? 0 : Double(plan.outputBytes) / Double(plan.sourceBytes)
    text += "\nTotal: \(ByteSize(bytes: plan.outputBytes).decimal) in \(plan.files.count) "
    text += plan.files.count == 1 ? "file" : "files"
    text +=
      ", \(NumberText.decimals(plan.bitsPerWeight, 2)) bits per weight, \(NumberText.decimals(ratio * 100, 1)) % of the source\n"
    return text
  }
}

// MARK: - Parts

extension PlanTable {
  /// Parts with the same contents, as the ranks of one side nearly always have.
  private struct Group {
    let rows: [[String]]
    var parts: [ShardPlan.Part]
  }

  private var groups: [Group] {
    var groups: [Group] = []
    for part in plan.parts {
      let rows = rows(of: part)
      if let last = groups.last, last.rows == rows, last.parts[0].role == part.role {
        groups[groups.count - 1].parts.append(part)
      } else {
        groups.append(Group(rows: rows, parts: [part]))
      }
    }
    return groups
  }

  private func rows(of part: ShardPlan.Part) -> [[String]] {
    struct Kind: Hashable {
      let role: TensorRole
      let type: String
    }
    struct Sum {
      var (tensors, parameters, bytes) = (0, 0, 0)
    }
    var sums: [Kind: Sum] = [:]
    for file in part.files {
      for tensor in file.tensors {
        let kind = Kind(role: tensor.role, type: tensor.typeInWords)
        sums[kind, default: Sum()].tensors += 1
        sums[kind, default: Sum()].parameters += tensor.parameters
        sums[kind, default: Sum()].bytes += tensor.bytes
      }
    }
    let order = Dictionary(uniqueKeysWithValues: TensorRole.allCases.enumerated().map { ($1, $0) })
    return sums.sorted {
      (order[$0.key.role] ?? 0, $0.key.type) < (order[$1.key.role] ?? 0, $1.key.type)
    }.map { kind, sum in
      [
        kind.role.rawValue, kind.type, "\(sum.tensors)", "\(sum.parameters)",
        ByteSize(bytes: sum.bytes).decimal,
      ]
    }
  }

  private func describe(_ group: Group, width: Int?) -> String {
    let part = group.parts[0]
    var title = part.directory.isEmpty ? "Output" : "\(part.directory)/"
    if group.parts.count > 1, let last = group.parts.last {
      title += " to \(last.directory)/ (\(group.parts.count) parts), each"
    }
    let files = part.files.count == 1 ? "1 file" : "\(part.files.count) files"
    title += group.parts.count > 1 ? ":\n  " : ": "
    title += "\(files), \(ByteSize(bytes: part.bytes).decimal), "
    title += "\(NumberText.decimals(part.bitsPerWeight, 2)) bits per weight\n"
    var table = TextTable([
      TextTable.Column("role"), TextTable.Column("type"), TextTable.Column("tensors", .right),
      TextTable.Column("parameters", .right), TextTable.Column("bytes", .right),
    ])
    for row in group.rows { table.append(row) }
    return title + table.rendered(width: width)
  }

  /// The memory that each side's accelerators need.
  private func sides(width: Int?) -> String {
    var table = TextTable([
      TextTable.Column("side"), TextTable.Column("ranks", .right), TextTable.Column("parameters", .right),
      TextTable.Column("all ranks", .right), TextTable.Column("largest rank", .right),
      TextTable.Column("bits/weight", .right),
    ])
    for role in PartRole.parts {
      let parts = plan.parts.filter { $0.role == role }
      guard !parts.isEmpty else { continue }
      let parameters = parts.reduce(0) { $0 + $1.parameters }
      let bytes = parts.map(\.tensorBytes)
      let bits = parameters == 0 ? 0 : Double(bytes.reduce(0, +)) * 8 / Double(parameters)
      table.append([
        role.rawValue, "\(parts.count)", "\(parameters)", ByteSize(bytes: bytes.reduce(0, +)).decimal,
        ByteSize(bytes: bytes.max() ?? 0).decimal, NumberText.decimals(bits, 2),
      ])
    }
    return "Memory for weights:\n" + table.rendered(width: width)
  }
}

// MARK: - Notes

extension PlanTable {
  /// What a user should know before starting: what is replicated, not stored as requested, or not stored at all.
  private func notes(width: Int) -> String {
    var text = PlanNotes(plan).text(width: width)
    let replicated = PlanNotes.Group.grouping(plan.replicated) {
      ("\($0.parts.count) parts: \($0.reason)", $0.tensor)
    }
    text += PlanNotes.section("In several parts", replicated, width: width)
    let repacked = plan.repacked
    if !repacked.isEmpty {
      text += PlanNotes.section(
        "Four-bit codes that are repacked unchanged",
        [PlanNotes.Group(reason: nil, names: repacked)], width: width)
    }
    let amendments = plan.amendments.map {
      PlanNotes.Group(reason: "\($0.key) \($0.reason)", names: [])
    }
    text += PlanNotes.section("Corrected in config.json", amendments, width: width)
    return text
  }
}

extension ShardPlan.Tensor {
  /// The element type, with its scheme: `U8 (NVFP4)`.
  fileprivate var typeInWords: String {
    operation.scheme.map { "\(elementType) (\($0.scheme))" } ?? "\(elementType)"
  }
}

extension ShardPlan {
  /// The source tensors whose codes are moved between GGML blocks and schemes.
  fileprivate var repacked: [String] {
    files.flatMap(\.tensors).filter {
      switch $0.operation {
      case .pack, .unpack(.codes, _): true
      case .copy, .convert, .encode, .unpack, .carry, .shape: false
      }
    }.map(\.source.tensor)
  }
}

extension ShardPlan.Part {
  /// The bytes of its tensors, without file headers: the memory that a rank needs.
  fileprivate var tensorBytes: Int { files.reduce(0) { $0 + $1.tensors.reduce(0) { $0 + $1.bytes } } }
}
