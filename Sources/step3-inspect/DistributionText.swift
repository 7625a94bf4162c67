internal import CommandSupport
internal import Inspection
internal import TensorFormats

/// A chart of the distribution of a tensor's values.
struct DistributionText {
  let text: String

  /// Draws a tensor's histogram.
  init(_ tensor: StatisticsReport.Tensor, style: ReportStyle) {
    let columns = StandardStream.output.columns ?? 80
    let heading = "\(style.name(tensor.name))  \(tensor.dtype.rawValue)  \(shapeText(tensor.shape))\n"
    guard let distribution = tensor.distribution else {
      text = heading + (style.markdown ? "\n" : "  ") + "no finite values\n"
      return
    }
    let width = BarChart.width(of: distribution.counts.count, in: columns - 2)
    let (low, high) = (
      significant(distribution.minimum, digits: 4), significant(distribution.maximum, digits: 4)
    )
    let gap = String(repeating: " ", count: max(1, width - low.count - high.count))
    let chart = BarChart.lines(distribution.counts, width: columns - 2) + [low + gap + high]
    text =
      style.markdown
      ? "\(heading)\n```text\n\(chart.joined(separator: "\n"))\n```\n"
      : heading + chart.map { $0.isEmpty ? "\n" : "  \($0)\n" }.joined()
  }
}
