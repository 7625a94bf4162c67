import CommandSupport
import Conversion
import ShardPlanning
import TensorFormats

/// The outcome of a share, or what it would do.
struct ShareSummary: Encodable {
  let share: String
  /// `nil` if nothing was done.
  let output: String?
  /// The source files that it reads.
  let files: [String]
  let sourceBytes: Int
  /// The units of the share, and how many of them an earlier run had finished; `nil` if nothing was done.
  let units: Int?
  let resumedUnits: Int?
  let wasComplete: Bool?
  let seconds: Double?
  let peakMemoryBytes: Int?
  /// The numbers of the unfinished shares.
  let sharesLeft: [Int]?
  /// Whether the whole output is complete.
  let isSealed: Bool?

  init(_ outcome: ShareOutcome, output: String, seconds: Double) {
    share = "\(outcome.share)"
    self.output = output
    files = outcome.files
    sourceBytes = outcome.bytes
    units = outcome.units
    resumedUnits = outcome.reusedUnits
    wasComplete = outcome.wasComplete
    self.seconds = seconds
    peakMemoryBytes = ProcessUsage.peakMemoryBytes
    sharesLeft = outcome.left
    isSealed = outcome.isSealed
  }

  /// What it would do.
  init(_ share: ConversionShare, of plan: ShardPlan) {
    self.share = "\(share)"
    let own = share.sourceFiles(of: plan.source).sorted().map { plan.source.files[$0] }
    files = own.map(\.path)
    sourceBytes = own.reduce(0) { $0 + $1.bytes }
    (output, units, resumedUnits, wasComplete) = (nil, nil, nil, nil)
    (seconds, peakMemoryBytes, sharesLeft, isSealed) = (nil, nil, nil, nil)
  }

  func print(json: Bool) throws(CheckpointError) {
    guard !json else { return try StandardStream.output.write(json: self, as: .share) }
    try StandardStream.output.write(sentences: text)
  }

  private var text: String {
    let size = ByteSize(bytes: sourceBytes).binary
    let what = "share \(share): \(files.count) source \(files.count == 1 ? "file" : "files"), \(size)"
    guard let sharesLeft, let output, let seconds, let units, let resumedUnits else {
      return ([what] + files.map { "  \($0.printable)" }).joined(separator: "\n") + "\n"
    }
    var lines = [what]
    if isSealed == true {
      lines.append("\(output.printable) is already complete")
    } else if wasComplete == true {
      lines.append("was already done")
    } else {
      lines.append(
        "\(units) steps in \(NumberText.decimals(seconds, 1)) s, \(resumedUnits) of them already done")
    }
    if isSealed != true {
      lines.append(
        sharesLeft.isEmpty
          ? "all shares are done: complete the output with --seal"
          : "\(sharesLeft.count) \(sharesLeft.count == 1 ? "share is" : "shares are") left: \(sharesLeft.prefix(20).map(String.init).joined(separator: ", "))"
            + (sharesLeft.count > 20 ? ", ..." : ""))
    }
    return lines.joined(separator: "\n") + "\n"
  }
}
