import CommandSupport
import ShardPlanning
import TensorFormats

/// What was chosen for a size budget, and why, as text.
struct BudgetTable {
  let plan: ShardPlan
  let budget: ShardPlan.Budget

  init?(_ plan: ShardPlan) {
    guard let budget = plan.request.budget else { return nil }
    self.plan = plan
    self.budget = budget
  }

  func rendered(width: Int?) -> String {
    var text = "Size budget: \(asked), chosen \(size(budget.bytes))"
    if let left { text += ", \(left) left" }
    text += "\n  estimated KL divergence \(NumberText.significant(budget.estimatedKL)) "
    text += "(an estimate; step3-verify logits measures it)\n"
    text +=
      "  Lagrange multiplier: one more byte lowers it by \(NumberText.significant(budget.multiplier))\n"
    text += "  the candidates range from \(size(budget.reachable.lowerBound)) "
    text += "to \(size(budget.reachable.upperBound))\n"
    text += "  measured on \(budget.sampledRows) rows, "
    text += "\(ByteSize(bytes: budget.sampledBytes).decimal) of the source\n"
    text += choices(width: width)
    if !budget.fixed.isEmpty { text += "Built-in recipes of about the same size:\n" + fixed(width: width) }
    return text
  }

  private var asked: String {
    switch budget.target {
    case .bytes(let bytes): "\(ByteSize(bytes: bytes).decimal) (\(bytes) bytes)"
    case .bitsPerWeight(let bits): "\(bits) bits per weight"
    case .klDivergence(let limit): "an estimated KL divergence of \(limit)"
    }
  }

  private var left: String? {
    switch budget.target {
    case .bytes(let bytes): ByteSize(bytes: max(0, bytes - budget.bytes)).decimal
    case .bitsPerWeight, .klDivergence: nil
    }
  }

  private func size(_ bytes: Int) -> String {
    if case .bitsPerWeight = budget.target, plan.parameters > 0 {
      return "\(NumberText.decimals(Double(bytes) * 8 / Double(plan.parameters), 3)) bits per weight"
    }
    return ByteSize(bytes: bytes).decimal
  }

  private struct Row {
    let kind: String
    let format: ElementType
    var tensors = 0
    var bytes = 0
    var error = 0.0
    var estimate = 0.0
  }

  /// A row for each kind of tensor and format.
  private func choices(width: Int?) -> String {
    let tensors = Dictionary(plan.files.flatMap(\.tensors).map { ($0.name, $0) }) { first, _ in first }
    var rows: [Row] = []
    for choice in budget.choices {
      guard let tensor = tensors[choice.tensor] else { continue }
      let parts = choice.tensor.split(separator: ".", maxSplits: 2)
      let kind = tensor.layer == nil || parts.count < 3 ? choice.tensor : "\(parts[0]).*.\(parts[2])"
      let place =
        rows.firstIndex { $0.kind == kind && $0.format == choice.format }
        ?? {
          rows.append(Row(kind: kind, format: choice.format))
          return rows.count - 1
        }()
      rows[place].tensors += 1
      rows[place].bytes += tensor.bytes
      rows[place].error += choice.relativeError
      rows[place].estimate += choice.estimatedKL
    }
    var table = TextTable([
      TextTable.Column("tensors", shrinks: true), TextTable.Column("type"),
      TextTable.Column("tensors", .right), TextTable.Column("bytes", .right),
      TextTable.Column("relative error", .right), TextTable.Column("estimated KL", .right),
    ])
    for row in rows.sorted(by: { ($0.kind, $0.bytes) < ($1.kind, $1.bytes) }) {
      table.append([
        row.kind.printable, "\(row.format)", "\(row.tensors)", ByteSize(bytes: row.bytes).decimal,
        NumberText.percent((row.error / Double(row.tensors)).squareRoot()),
        NumberText.significant(row.estimate),
      ])
    }
    return table.rendered(width: width)
  }

  private func fixed(width: Int?) -> String {
    var table = TextTable([
      TextTable.Column("recipe"), TextTable.Column("size", .right), TextTable.Column("estimated KL", .right),
    ])
    for recipe in budget.fixed {
      table.append([
        recipe.recipe.printable, size(recipe.bytes), NumberText.significant(recipe.estimatedKL),
      ])
    }
    return table.rendered(width: width)
  }
}
