#if canImport(Glibc)
internal import Glibc
#else
internal import Darwin
#endif

/// A bar chart of counts, drawn with block characters.
public enum BarChart {
  /// How many lines a chart has.
  private static let height = 4
  /// The characters that fill a line, from empty to full.
  private static let blocks: [Character] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]
  private static let ascii: [Character] = [" ", ".", ":", "#"]

  /// The lines of a chart, the highest first, none ending in spaces.
  ///
  /// Heights are logarithmic: among millions of weights, a few outliers are what cost a quantiser its range. Anything
  /// but 0 is always visible.
  ///
  /// - Parameters:
  ///   - width: The columns available. Neighbouring counts are added together until they fit.
  ///   - usesUnicode: Whether the terminal shows blocks; see ``showsUnicode``.
  public static func lines(_ counts: [Int], width: Int, usesUnicode: Bool = showsUnicode) -> [String] {
    let counts = narrowed(counts, to: max(1, width))
    let steps = usesUnicode ? blocks : ascii
    let full = steps.count - 1
    let scale = log1p(Double(counts.max() ?? 0))
    let levels = counts.map { count in
      count == 0 ? 0 : max(1, Int((log1p(Double(count)) / scale * Double(full * height)).rounded()))
    }
    return (0..<height).reversed().map { line in
      var text = String(levels.map { steps[min(full, max(0, $0 - line * full))] })
      while text.last == " " { text.removeLast() }
      return text
    }
  }

  /// The columns that a chart of this many counts takes.
  public static func width(of counts: Int, in columns: Int) -> Int {
    let step = step(counts, columns)
    return (counts + step - 1) / step
  }

  private static func step(_ counts: Int, _ columns: Int) -> Int {
    max(1, (counts + max(1, columns) - 1) / max(1, columns))
  }

  private static func narrowed(_ counts: [Int], to width: Int) -> [Int] {
    let step = step(counts.count, width)
    return stride(from: 0, to: counts.count, by: step).map { start in
      counts[start..<min(counts.count, start + step)].reduce(0, +)
    }
  }

  /// Whether the locale's encoding is UTF-8, by the variables that C programs read.
  public static var showsUnicode: Bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].lazy.compactMap { environment($0) }.first { !$0.isEmpty }
    let name = (locale ?? "").lowercased()
    return name.contains("utf-8") || name.contains("utf8")
  }
}
