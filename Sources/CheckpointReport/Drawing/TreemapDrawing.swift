internal import Checkpoint
internal import TensorFormats

/// The bytes of a checkpoint by role, within a role by layer, within a layer by tensor.
struct TreemapDrawing {
  private let entries: [TensorEntry]
  private static let frame = Frame(x: 0, y: 0, width: 1000, height: 460)

  init(_ entries: [TensorEntry]) { self.entries = entries }

  /// Entries, by index, that are drawn inside one rectangle.
  private struct Group {
    var bytes = 0
    var members: [Int] = []

    mutating func add(_ index: Int, _ entry: TensorEntry) {
      bytes += entry.bytes
      members.append(index)
    }
  }

  var markup: Markup {
    var drawing = Markup()
    let attributes =
      "class=\"treemap\" viewBox=\"0 0 1000 460\" role=\"img\" aria-label=\"Treemap of the stored bytes by role, layer "
      + "and tensor\""
    drawing.element("svg", attributes) { svg in
      var roles: [TensorRole: Group] = [:]
      for (index, entry) in entries.enumerated() { roles[entry.role, default: Group()].add(index, entry) }
      let sorted = roles.sorted { ($0.value.bytes, $1.key.rawValue) > ($1.value.bytes, $0.key.rawValue) }
      let frames = Treemap.layout(sorted.map { Double($0.value.bytes) }, in: Self.frame)
      for ((role, group), frame) in zip(sorted, frames) { draw(role, group, frame, in: &svg) }
    }
    return drawing
  }

  private func draw(_ role: TensorRole, _ group: Group, _ frame: Frame, in svg: inout Markup) {
    let hasHeading = frame.width > 70 && frame.height > 40
    let inner = frame.inset(by: 1, top: hasHeading ? 16 : 0)
    svg.element("g", "class=\"role-\(role.rawValue)\"") { svg in
      svg.raw("<rect class=\"ground\" \(frame.inset(by: 0.5).attributes)/>")
      if hasHeading {
        let label = "\(role.rawValue.replacing("_", with: " ")) \(NumberText.decimalSize(group.bytes))"
        write(label, x: frame.x + 6, y: frame.y + 13, width: frame.width - 8, "heading", in: &svg)
      }
      var layers: [Int: Group] = [:]
      for index in group.members {
        layers[entries[index].layer ?? -1, default: Group()].add(index, entries[index])
      }
      let sorted = layers.sorted { ($0.value.bytes, $1.key) > ($1.value.bytes, $0.key) }
      let frames = Treemap.layout(sorted.map { Double($0.value.bytes) }, in: inner)
      for ((layer, group), frame) in zip(sorted, frames) { draw(layer, group, frame, in: &svg) }
    }
  }

  private func draw(_ layer: Int, _ group: Group, _ frame: Frame, in svg: inout Markup) {
    let members = group.members.sorted { (entries[$0].bytes, $1) > (entries[$1].bytes, $0) }
    let frames = Treemap.layout(members.map { Double(entries[$0].bytes) }, in: frame)
    for (index, frame) in zip(members, frames) where frame.width >= 0.2 && frame.height >= 0.2 {
      svg.raw("<rect data-i=\"\(index)\" \(frame.attributes)/>")
    }
    guard frame.width > 22, frame.height > 13 else { return }
    svg.raw("<rect class=\"edge\" \(frame.attributes)/>")
    let label = layer >= 0 ? "\(layer)" : members.count == 1 ? entries[members[0]].name : ""
    write(label, x: frame.x + 4, y: frame.y + 11, width: frame.width - 6, "label", in: &svg)
  }

  /// Text truncated to fit.
  private func write(
    _ text: String, x: Double, y: Double, width: Double, _ style: String, in svg: inout Markup
  ) {
    // Letters of ten units are about six wide.
    let room = Int(width / 6.2)
    guard room > 1, !text.isEmpty else { return }
    let cut = text.count <= room ? text : text.prefix(room - 1) + "…"
    svg.element(
      "text", "class=\"\(style)\" x=\"\(x.coordinate)\" y=\"\(y.coordinate)\"", text: String(cut))
  }
}
