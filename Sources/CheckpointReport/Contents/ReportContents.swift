package import Checkpoint
package import Inspection
internal import Step3Model
package import TensorFormats

/// Everything that a report shows.
package struct ReportContents: Sendable {
  /// The last component of the user's path.
  package let title: String
  package let listing: TensorListing
  package let entries: [TensorEntry]
  /// Whether values were read.
  package let hasValues: Bool
  package let cut: CutFigures?
  /// The length of the residual stream; `nil` for unknown models.
  package let hiddenSize: Int?
  package let errors: ErrorFigures?
  package let logits: LogitsFigures?
  /// The version of the tool that made the report.
  package let tool: String

  /// The number of bars in a tensor's histogram.
  package static let histogramBins = 48

  /// Assembles the contents.
  ///
  /// - Parameters:
  ///   - statistics: Of the listing's tensors in its order; `nil` if none were read.
  ///   - tool: The version to name.
  /// - Throws: `.malformed` if a part of a partition set says something impossible about itself.
  package init(
    _ checkpoint: Checkpoint, _ listing: TensorListing, statistics: StatisticsReport?,
    errors: ErrorFigures? = nil, logits: LogitsFigures? = nil, tool: String
  ) throws(CheckpointError) {
    entries = [TensorEntry](listing, statistics)
    cut = try CutFigures(checkpoint, entries)
    hasValues = statistics != nil
    // A report on weights does not require knowing the model.
    hiddenSize = (try? Step3Configuration(of: checkpoint))?.text.hiddenSize
    let components = listing.path.split(separator: "/")
    title = components.last.map(String.init) ?? listing.path
    self.listing = listing
    self.errors = errors
    self.logits = logits
    self.tool = tool
  }
}
