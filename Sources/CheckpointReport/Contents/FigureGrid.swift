/// Figures by row and column, for a heat map.
package struct FigureGrid: Sendable {
  /// What the figures show.
  package let title: String
  package let rows: [String]
  package let columns: [String]
  /// By row, then by column; `nil` if there is none.
  package private(set) var values: [[Double?]]
}

extension FigureGrid {
  /// Arranges figures, keeping the largest of those that share a cell.
  ///
  /// - Parameter figures: A row's name, its order among the rows, the column and the figure of each.
  /// - Returns: `nil` without figures.
  package init?(_ title: String, _ figures: [(row: String, column: Int, value: Double)]) {
    var rows: [String: Int] = [:]
    var names: [String] = []
    for figure in figures where rows[figure.row] == nil {
      rows[figure.row] = names.count
      names.append(figure.row)
    }
    let columns = Set(figures.map(\.column)).sorted()
    guard !columns.isEmpty else { return nil }
    let places = Dictionary(uniqueKeysWithValues: columns.enumerated().map { ($1, $0) })
    values = names.map { _ in columns.map { _ in nil } }
    for figure in figures {
      guard let row = rows[figure.row], let column = places[figure.column] else { continue }
      values[row][column] = max(values[row][column] ?? 0, figure.value)
    }
    self.title = title
    self.rows = names
    self.columns = columns.map(String.init)
  }
}
