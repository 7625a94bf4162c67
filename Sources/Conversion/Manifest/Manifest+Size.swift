internal import Checkpoint
package import ShardPlanning
package import TensorFormats

extension Manifest {
  /// Refuses a conversion whose manifest could exceed the size limit for reading, before anything is written.
  ///
  /// - Parameters:
  ///   - encoded: The plan as JSON without indentation.
  ///   - limit: The size limit for reading, in bytes.
  /// - Throws: `.invalidRequest`.
  package static func requireReadable(
    _ plan: ShardPlan, encoded: [UInt8], limit: Int = OutputMarkers.largestRecord
  ) throws(CheckpointError) {
    let most = largestByteCount(of: plan, encoded: encoded)
    guard most <= limit else {
      throw CheckpointError(
        .invalidRequest,
        "its manifest could take \(most) bytes for \(plan.parts.count) parts, more than the limit of "
          + "\(limit)", remedy: "partition the model into fewer parts")
    }
  }

  /// An upper bound on the size of a plan's manifest, whatever the conversion finds.
  ///
  /// - Parameter encoded: The plan as JSON without indentation.
  /// - Complexity: O(size of the plan).
  package static func largestByteCount(of plan: ShardPlan, encoded: [UInt8]) -> Int {
    // Every brace, bracket and comma begins a line of its own, at most fourteen levels deep in the manifest; a colon is
    // between blanks. Braces and the like inside strings are counted too.
    var count = encoded.count
    for byte in encoded {
      switch byte {
      case UInt8(ascii: "{"), UInt8(ascii: "}"), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: ","):
        count += 1 + 2 * 14
      case UInt8(ascii: ":"): count += 2
      default: break
      }
    }
    /// A string with escapes, at most six bytes for one, on a line of its own.
    func text(_ text: String) -> Int { 6 * text.utf8.count + 16 }
    /// The keys of a record with its digests and indentation.
    let record = 256
    for file in plan.source.files { count += record + text(file.path) }
    let onDisk = Dictionary(
      plan.source.derived.map { ($0.tensor, $0.origins) }, uniquingKeysWith: { first, _ in first })
    for part in plan.parts {
      for document in part.documents { count += record + text(document.path) }
      for copy in part.copies { count += record + text(copy.path) }
      for file in part.files {
        count += record + text(file.path)
        for tensor in file.tensors {
          // Six figures of at most 24 digits with their keys.
          count += record + 6 * 64 + text(tensor.name) + text(file.path)
          for slice in tensor.sources {
            for name in [slice.tensor, slice.scaling?.scales?.tensor, slice.scaling?.matrixScales?.tensor] {
              for origin in name.map({ onDisk[$0] ?? [$0] }) ?? [] { count += text(origin) }
            }
            // Each matrix may have been rounded to nearest.
            if plan.request.calibration != nil {
              count += slice.shape.dimensions.dropLast(2).reduce(1, *) * (record + text(slice.tensor))
            }
          }
        }
      }
    }
    // Things that occur once: the root digest, the version and the keys.
    return count + 2 * record
  }
}
