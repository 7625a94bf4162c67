internal import Checkpoint
internal import TensorFormats

/// The bytes of each layer as bars, stacked by role.
struct LayerBars {
  private let layers: [(layer: Int, bytes: [TensorRole: Int])]

  /// - Returns: `nil` if no tensor is in a layer.
  init?(_ entries: [TensorEntry]) {
    var sums: [Int: [TensorRole: Int]] = [:]
    for entry in entries {
      // The layers of a vision encoder are separate.
      guard let layer = entry.layer, entry.role != .vision else { continue }
      sums[layer, default: [:]][entry.role, default: 0] += entry.bytes
    }
    guard !sums.isEmpty else { return nil }
    layers = sums.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  var markup: Markup {
    let largest = layers.map { $0.bytes.values.reduce(0, +) }.max() ?? 0
    let step = 960 / Double(layers.count)
    var drawing = Markup()
    let attributes =
      "class=\"bars\" viewBox=\"0 0 1000 150\" role=\"img\" aria-label=\"Stored bytes of each layer by role\""
    drawing.element("svg", attributes) { svg in
      svg.element("text", "class=\"label\" x=\"0\" y=\"10\"", text: NumberText.decimalSize(largest))
      for (position, (layer, bytes)) in layers.enumerated() {
        let x = 38 + Double(position) * step
        var top = 130.0
        for role in TensorRole.allCases {
          guard let part = bytes[role], part > 0, largest > 0 else { continue }
          let height = Double(part) / Double(largest) * 124
          top -= height
          let frame = Frame(x: x, y: top, width: max(0.5, step - 1), height: height)
          svg.element("rect", "class=\"role-\(role.rawValue)\" \(frame.attributes)") {
            $0.element("title", text: "layer \(layer), \(role.rawValue): \(NumberText.decimalSize(part))")
          }
        }
        guard step >= 16 || layer.isMultiple(of: 5) else { continue }
        svg.element(
          "text", "class=\"label middle\" x=\"\((x + step / 2).coordinate)\" y=\"144\"", text: "\(layer)")
      }
    }
    return drawing
  }
}
