internal import ShardPlanning
internal import TensorFormats

/// Checks the names in a plan from a file: what is read must be in the source, what is written in the output, each in
/// its part.
struct PlanNames {
  private let plan: ShardPlan

  init(_ plan: ShardPlan) { self.plan = plan }

  /// - Throws: `.malformed` naming the first that leads outside, or appears twice.
  func check() throws(CheckpointError) {
    for file in plan.source.files {
      try check(OutputPath.isPlain(file.path, components: 16), "a source is '\(file.path.printable)'")
    }
    try check(OutputListing(plan).isSound, "a path leads outside, or appears twice")
    for part in plan.parts {
      let prefix = part.directory.isEmpty ? "" : "\(part.directory)/"
      for path in part.files.map(\.path) + part.documents.map(\.path) {
        let isInside = path.hasPrefix(prefix) && !path.dropFirst(prefix.count).contains("/")
        try check(isInside, "\(path.printable) is not in its part")
      }
      for copy in part.copies {
        // Side files may lie in a folder.
        try check(copy.path.hasPrefix(prefix), "\(copy.path.printable) is not in its part")
        try check(
          OutputPath.isPlain(copy.from, components: 16), "the copy \(copy.path.printable) is not described")
      }
    }
  }

  private func check(_ holds: Bool, _ message: @autoclosure () -> String) throws(CheckpointError) {
    guard holds else { throw CheckpointError(.malformed, message()) }
  }
}
