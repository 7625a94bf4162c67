internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// A grid of figures in colours, on a logarithmic scale.
///
/// Cells of one colour are one path, so that thousands of them take only tens of kilobytes; a cell's figure is looked
/// up by position in the page's data.
package struct HeatMap {
  let grid: FigureGrid
  /// The index of the figures in the page's data.
  let number: Int
  /// The range of the colours.
  private let range: ClosedRange<Double>

  /// Steps of the scale.
  package static let levels = 10

  /// - Returns: `nil` if no figure is above 0.
  package init?(_ grid: FigureGrid, number: Int) {
    guard let range = Self.range(of: grid) else { return nil }
    (self.grid, self.number, self.range) = (grid, number, range)
  }

  /// The ends of the positive figures; `nil` if there are none.
  private static func range(of grid: FigureGrid) -> ClosedRange<Double>? {
    let figures = grid.values.joined().compactMap(\.self).filter { $0 > 0 && $0.isFinite }
    guard let low = figures.min(), let high = figures.max() else { return nil }
    // Figures that hardly differ do not use all colours.
    let middle = (low * high).squareRoot()
    return min(low, middle / 1.05)...max(high, middle * 1.05)
  }

  /// The colour of a figure: 0 for none, 1 to ``levels`` for the range.
  package func level(_ figure: Double) -> Int {
    guard figure > 0 else { return 0 }
    guard figure.isFinite else { return Self.levels }
    let share = log(figure / range.lowerBound) / log(range.upperBound / range.lowerBound)
    return 1 + min(Self.levels - 1, max(0, Int(share * Double(Self.levels))))
  }

  var markup: Markup {
    let labels = Double(grid.rows.map(\.count).max() ?? 0)
    let left = min(260, 10 + labels * 5.6)
    let columns = max(1, grid.columns.count)
    let width = min(24, (990 - left) / Double(columns))
    let height = grid.rows.count > 24 ? 7.0 : 14.0
    let bottom = Double(grid.rows.count) * height
    var drawing = Markup()
    let attributes =
      "class=\"heat\" data-grid=\"\(number)\" data-left=\"\(left.coordinate)\" data-width=\"\(width)\" "
      + "data-height=\"\(height.coordinate)\" viewBox=\"0 0 1000 \((bottom + 18).coordinate)\" role=\"img\""
    drawing.element("svg", attributes) { svg in
      svg.element("title", text: grid.title)
      draw(in: &svg, left, width, height)
      for (row, name) in grid.rows.enumerated() where height > 10 || row.isMultiple(of: 4) {
        let y = Double(row) * height + height / 2 + 3.5
        svg.element(
          "text", "class=\"label end\" x=\"\((left - 5).coordinate)\" y=\"\(y.coordinate)\"", text: name)
      }
      let step = width >= 17 ? 1 : width >= 9 ? 2 : 5
      for (column, name) in grid.columns.enumerated() where column.isMultiple(of: step) {
        let x = left + (Double(column) + 0.5) * width
        svg.element(
          "text", "class=\"label middle\" x=\"\(x.coordinate)\" y=\"\((bottom + 12).coordinate)\"", text: name
        )
      }
    }
    return drawing
  }

  private func draw(in svg: inout Markup, _ left: Double, _ width: Double, _ height: Double) {
    var paths = [String](repeating: "", count: Self.levels + 1)
    for (row, figures) in grid.values.enumerated() {
      for (column, figure) in figures.enumerated() {
        guard let figure else { continue }
        let (x, y) = (left + Double(column) * width, Double(row) * height)
        paths[level(figure)] +=
          "M\(x.coordinate) \(y.coordinate)h\((width - 0.6).coordinate)v\((height - 0.6).coordinate)h-\((width - 0.6).coordinate)z"
      }
    }
    for (level, path) in paths.enumerated() where !path.isEmpty {
      svg.raw("<path class=\"heat-\(level)\" d=\"\(path)\"/>")
    }
  }

  /// The legend of the colours.
  var legend: Markup {
    var drawing = Markup()
    drawing.element(
      "svg", "class=\"scale\" viewBox=\"0 0 420 26\" role=\"img\" aria-label=\"Scale of colours\""
    ) { svg in
      for level in 1...Self.levels {
        svg.raw("<rect class=\"heat-\(level)\" x=\"\(90 + level * 22)\" y=\"4\" width=\"22\" height=\"12\"/>")
      }
      let (low, high) = (NumberText.percent(range.lowerBound), NumberText.percent(range.upperBound))
      svg.element("text", "class=\"label end\" x=\"106\" y=\"14\"", text: low)
      svg.element("text", "class=\"label\" x=\"338\" y=\"14\"", text: high)
    }
    return drawing
  }
}
