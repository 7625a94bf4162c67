internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// Figures in a row, as points or bars over a logarithmic axis: errors and divergences span orders of magnitude.
struct Chart {
  enum Kind {
    case points
    case bars
  }

  let kind: Kind
  /// A description for screen readers.
  let title: String
  /// The label of the axis.
  let axis: String
  let values: [Double]
  /// Labels under bars; empty for none.
  var labels: [String] = []
  /// A limit beside each value, drawn as a line; empty if there is none.
  var limits: [Double] = []
  /// Which values are drawn in the fault colour.
  var faults: Set<Int> = []

  /// The most points drawn individually; beyond that, the maximum and mean of neighbours are drawn.
  private static let most = 800
  private static let height = 170.0
  private static let left = 60.0
  private static let width = 930.0

  /// The decades that the values are in.
  private var decades: ClosedRange<Int> {
    let positive = (values + limits).filter { $0 > 0 && $0.isFinite }
    guard let low = positive.min(), let high = positive.max() else { return -1...0 }
    let bottom = max(-16, Int(floor(log10(low))))
    return bottom...max(bottom + 1, Int(ceil(log10(high))))
  }

  var markup: Markup {
    let decades = decades
    func y(_ value: Double) -> Double {
      guard value > 0 else { return Self.height }
      let exponent = value.isFinite ? log10(value) : Double(decades.upperBound)
      let share = (exponent - Double(decades.lowerBound)) / Double(decades.count - 1)
      return Self.height - min(1, max(0, share)) * (Self.height - 8)
    }
    var drawing = Markup()
    drawing.element("svg", "class=\"chart\" viewBox=\"0 0 1000 195\" role=\"img\"") { svg in
      svg.element("title", text: title)
      let every = max(1, decades.count / 6)
      for decade in decades where (decade - decades.lowerBound).isMultiple(of: every) {
        let line = y(pow(10, Double(decade)))
        svg.raw(
          "<path class=\"rule\" d=\"M\(Self.left.coordinate) \(line.coordinate)h\(Self.width.coordinate)\"/>")
        svg.element(
          "text", "class=\"label end\" x=\"\((Self.left - 6).coordinate)\" y=\"\((line + 3.5).coordinate)\"",
          text: decade >= -3 && decade <= 3 ? NumberText.trimmed(pow(10, Double(decade)), 3) : "1e\(decade)")
      }
      svg.element("text", "class=\"label\" x=\"\(Self.left.coordinate)\" y=\"190\"", text: axis)
      kind == .points ? points(in: &svg, y) : bars(in: &svg, y)
    }
    return drawing
  }

  private func points(in svg: inout Markup, _ y: (Double) -> Double) {
    let group = (values.count + Self.most - 1) / Self.most
    var path = ""
    for start in stride(from: 0, to: values.count, by: max(1, group)) {
      // Outliers have to be visible, however many tokens share a column.
      let value = values[start..<min(values.count, start + max(1, group))].max() ?? 0
      let x = Self.left + (Double(start) + Double(group) / 2) / Double(max(1, values.count)) * Self.width
      path += "M\((x - 1).coordinate) \(y(value).coordinate)h2"
    }
    svg.raw("<path class=\"points\" d=\"\(path)\"/>")
  }

  private func bars(in svg: inout Markup, _ y: (Double) -> Double) {
    let step = Self.width / Double(max(1, values.count))
    for (index, value) in values.enumerated() {
      let (x, top) = (Self.left + Double(index) * step, y(value))
      let frame = Frame(x: x, y: top, width: max(0.5, min(40, step - 1)), height: Self.height - top)
      svg.element("rect", "class=\"\(faults.contains(index) ? "fault" : "bar")\" \(frame.attributes)") {
        $0.element(
          "title",
          text: "\(index < labels.count ? labels[index] : "\(index)"): \(NumberText.significant(value))")
      }
      if index < labels.count, step >= 16 || index.isMultiple(of: 5) {
        let middle = (x + frame.width / 2).coordinate
        svg.element("text", "class=\"label middle\" x=\"\(middle)\" y=\"184\"", text: labels[index])
      }
      guard index < limits.count else { continue }
      svg.raw(
        "<path class=\"limit\" d=\"M\(x.coordinate) \(y(limits[index]).coordinate)h\(frame.width.coordinate)\"/>"
      )
    }
  }
}
