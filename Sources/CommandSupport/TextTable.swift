/// A table of text for people.
public struct TextTable: Sendable {
  /// One column.
  public struct Column: Sendable {
    /// How text is aligned.
    public enum Alignment: Sendable { case left, right }

    let title: String
    let alignment: Alignment
    let shrinks: Bool
    let wraps: Bool
    let isProse: Bool
    let isOptional: Bool

    /// Describes a column.
    ///
    /// - Parameters:
    ///   - shrinks: Its texts are truncated in the middle if the terminal is too narrow for the table.
    ///   - wraps: Its texts are never truncated: one too long for a narrow terminal gets its own line, and the
    ///     row continues below it. For the first column, and for names that may differ anywhere.
    ///   - isProse: Its texts are sentences, wrapped and continued below. For the last column.
    ///   - isOptional: It is dropped if the table does not fit otherwise.
    public init(
      _ title: String, _ alignment: Alignment = .left, shrinks: Bool = false, wraps: Bool = false,
      isProse: Bool = false, isOptional: Bool = false
    ) {
      self.title = title
      self.alignment = alignment
      self.shrinks = shrinks
      self.wraps = wraps
      self.isProse = isProse
      self.isOptional = isOptional
    }
  }

  let columns: [Column]
  private(set) var rows: [[String]] = []
  private var widths: [Int]

  /// The columns between two columns of text.
  private static let gap = 2
  /// A shrinking column never gets narrower than this; a wrapping one does if the table does not fit otherwise.
  private static let narrowest = 12

  /// An empty table.
  public init(_ columns: [Column]) {
    self.columns = columns
    widths = columns.map(\.title.terminalWidth)
  }

  /// Appends a row; control characters are escaped.
  ///
  /// - Precondition: There is one text per column.
  public mutating func append(_ row: [String]) {
    precondition(row.count == columns.count, "a row has one text per column")
    let row = row.map(\.escapingControlCharacters)
    for index in row.indices { widths[index] = max(widths[index], row[index].terminalWidth) }
    rows.append(row)
  }

  /// The table as text, each line ended by a newline and without trailing spaces.
  ///
  /// - Parameters:
  ///   - width: The columns of the terminal; `nil` for no limit.
  ///   - heading: Applied to the line of titles, for example to make it bold.
  public func rendered(width: Int? = nil, heading: (String) -> String = { $0 }) -> String {
    let widths = fitted(to: width)
    if let width, widths.reduce(0, +) + Self.gap * (widths.count - 1) > width,
      let left = columns.lastIndex(where: \.isOptional)
    {
      var smaller = TextTable(columns.indices.filter { $0 != left }.map { columns[$0] })
      for row in rows { smaller.append(row.indices.filter { $0 != left }.map { row[$0] }) }
      return smaller.rendered(width: width, heading: heading)
    }
    var text = heading(line(columns.map(\.title), widths)) + "\n"
    for row in rows {
      text += line(row, widths)
      text += "\n"
    }
    return text
  }

  /// The widths, with shrinking columns narrowed, the widest first, until the table fits.
  private func fitted(to width: Int?) -> [Int] {
    var widths = widths
    guard let width else { return widths }
    var excess = widths.reduce(0, +) + Self.gap * (widths.count - 1) - width
    while excess > 0 {
      let candidates = widths.indices.filter {
        (columns[$0].shrinks || columns[$0].wraps || columns[$0].isProse) && widths[$0] > Self.narrowest
      }
      guard let widest = candidates.max(by: { widths[$0] < widths[$1] }) else { break }
      let second = candidates.filter { $0 != widest }.map { widths[$0] }.max() ?? Self.narrowest
      let step = min(excess, max(1, widths[widest] - max(second, Self.narrowest)))
      widths[widest] -= step
      excess -= step
    }
    for index in widths.indices where excess > 0 && columns[index].wraps {
      // Its title stays whole.
      let step = min(excess, max(0, widths[index] - max(4, columns[index].title.terminalWidth)))
      widths[index] -= step
      excess -= step
    }
    return widths
  }

  private func line(_ row: [String], _ widths: [Int]) -> String {
    var line = ""
    var pending = 0
    for index in row.indices {
      var text = row[index].truncatedInTheMiddle(to: columns[index].shrinks ? widths[index] : .max)
      if columns[index].isProse, index == row.count - 1 {
        let start = widths[..<index].reduce(0) { $0 + $1 + Self.gap }
        text = text.wrapped(to: widths[index], indent: 0).split(separator: "\n").joined(
          separator: "\n" + String(repeating: " ", count: start))
      }
      let padding = max(0, widths[index] - text.terminalWidth)
      if columns[index].alignment == .right { pending += padding }
      if !text.isEmpty {
        line += String(repeating: " ", count: pending) + text
        pending = 0
      }
      if columns[index].wraps, text.terminalWidth > widths[index] {
        line += "\n"
        pending = widths[index] + Self.gap
        continue
      }
      if columns[index].alignment == .left { pending += padding }
      pending += Self.gap
    }
    return line
  }
}
