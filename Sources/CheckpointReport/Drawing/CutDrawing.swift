internal import Checkpoint
internal import TensorFormats

/// The machines of a partitioned model with their contents, and the path of a token between them.
struct CutDrawing {
  private let cut: CutFigures
  private let hiddenSize: Int?
  /// The most cards in a row; further ranks share one card.
  private static let most = 8

  init(_ cut: CutFigures, hiddenSize: Int?) {
    self.cut = cut
    self.hiddenSize = hiddenSize
  }

  var markup: Markup {
    let sides = PartRole.parts.compactMap { side -> (PartRole, [CutFigures.Share])? in
      let shares = cut.shares.filter { $0.side == side }
      return shares.isEmpty ? nil : (side, shares)
    }
    let largest = cut.shares.map(\.bytes).max() ?? 0
    let height = Double(sides.count) * 118
    var drawing = Markup()
    let attributes =
      "class=\"cut\" viewBox=\"0 0 1000 \(height.coordinate)\" role=\"img\" aria-label=\"Division into attention, experts "
      + "and vision\""
    drawing.element("svg", attributes) { svg in
      for (row, (side, shares)) in sides.enumerated() {
        let y = Double(row) * 118 + 6
        svg.element("text", "class=\"heading\" x=\"4\" y=\"\((y + 14).coordinate)\"", text: Self.name(side))
        let total = shares.reduce(0) { $0 + $1.bytes }
        let count =
          "\(shares.count) \(shares.count == 1 ? "part" : "parts"), \(NumberText.decimalSize(total))"
        svg.element("text", "class=\"label\" x=\"4\" y=\"\((y + 30).coordinate)\"", text: count)
        draw(shares, y: y, largest, in: &svg)
        if side == .attention, sides.contains(where: { $0.0 == .ffn }) { arrows(y + 92, in: &svg) }
      }
    }
    return drawing
  }

  private static func name(_ side: PartRole) -> String {
    switch side {
    case .attention: "Attention"
    case .ffn: "FFN, experts"
    case .vision: "Vision"
    case .model: "Model"
    }
  }

  private func draw(_ shares: [CutFigures.Share], y: Double, _ largest: Int, in svg: inout Markup) {
    let shown = shares.count > Self.most ? Array(shares.prefix(Self.most - 1)) : shares
    let width = 830 / Double(max(1, shares.count > Self.most ? Self.most : shown.count))
    for (index, share) in shown.enumerated() {
      let frame = Frame(x: 160 + Double(index) * width, y: y, width: width - 8, height: 84)
      svg.raw("<rect class=\"card\" rx=\"6\" \(frame.attributes)/>")
      let room = Int((width - 20) / 6.2)
      let title = "\(share.name): \(NumberText.decimalSize(share.bytes))"
      svg.element(
        "text", "class=\"label strong\" x=\"\((frame.x + 8).coordinate)\" y=\"\((y + 17).coordinate)\"",
        text: title.count > room ? String(title.prefix(max(1, room - 1))) + "…" : title)
      if room > 11 {
        svg.element(
          "text", "class=\"label\" x=\"\((frame.x + 8).coordinate)\" y=\"\((y + 33).coordinate)\"",
          text: "\(share.tensors) tensors")
      }
      // Proportional to its bytes, relative to the largest share.
      let length = (frame.width - 16) * (largest > 0 ? Double(share.bytes) / Double(largest) : 0)
      var x = frame.x + 8
      for (role, bytes) in share.roles {
        let part = share.bytes > 0 ? Double(bytes) / Double(share.bytes) * length : 0
        let piece = Frame(x: x, y: y + 44, width: part, height: 26)
        svg.element("rect", "class=\"role-\(role.rawValue)\" \(piece.attributes)") {
          $0.element("title", text: "\(role.rawValue): \(NumberText.decimalSize(bytes))")
        }
        x += part
      }
    }
    guard shown.count < shares.count else { return }
    let x = 160 + Double(shown.count) * width + 8
    svg.element(
      "text", "class=\"label\" x=\"\(x.coordinate)\" y=\"\((y + 45).coordinate)\"",
      text: "and \(shares.count - shown.count) more")
  }

  private func arrows(_ y: Double, in svg: inout Markup) {
    svg.raw("<path class=\"arrow\" d=\"M180 \(y.coordinate)v22m-4 -6l4 6l4 -6\"/>")
    svg.raw("<path class=\"arrow\" d=\"M700 \((y + 22).coordinate)v-22m-4 6l4 -6l4 6\"/>")
    let hidden = hiddenSize.map { "\($0) elements of hidden state" } ?? "hidden state"
    svg.element(
      "text", "class=\"label\" x=\"190\" y=\"\((y + 14).coordinate)\"",
      text: "per token and layer: \(hidden), the chosen experts and their weights")
    svg.element("text", "class=\"label\" x=\"710\" y=\"\((y + 14).coordinate)\"", text: "\(hidden) back")
  }
}
