package import ByteStreams
internal import StoredWeights
package import ShardPlanning
package import TensorFormats

/// Everything that a conversion reads from its source, as declared by its units.
package struct DeclaredReads: Sendable {
  /// What units read, and how many of them.
  package private(set) var units: [FileRange: Int] = [:]
  /// What is read an extra time for measuring, at most once, if it does not fit into the window.
  package private(set) var scans: Set<FileRange> = []

  /// Goes through all units.
  ///
  /// - Throws: `.unsupported` for unsupported scales and types.
  /// - Complexity: O(units).
  package init(_ planned: PlannedConversion) throws(CheckpointError) {
    let work = try WorkList(planned.plan, planned.checkpoint)
    let maxima = MatrixMaxima(work.scaleGroups)
    var keys: Set<MatrixMaxima.Key> = []
    for segment in work.streams.lazy.flatMap(\.segments) {
      for index in 0..<segment.unitCount {
        let unit = segment.unit(index, of: work)
        for range in unit.reads { units[range, default: 0] += 1 }
        if let key = unit.maximum { keys.insert(key) }
      }
    }
    for scan in keys.flatMap({ maxima.scans($0) }) {
      let reads = scan.reads
      scans.formUnion([reads.codes] + [reads.scales, reads.matrixScale].compactMap { $0 })
    }
  }
}
