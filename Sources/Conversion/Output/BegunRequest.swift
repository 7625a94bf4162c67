internal import ByteStreams
internal import Checkpoint
public import ShardPlanning
public import TensorFormats

extension Conversion {
  /// The request of an output that is complete or was begun: its decisions need not be made again.
  ///
  /// - Returns: `nil` if there is none, or none that can be resumed; the conversion then reports what is wrong.
  /// - Throws: `.inputOutput`.
  public static func request(begunIn output: String) throws(CheckpointError) -> ShardPlan.Request? {
    guard let root = try HeldDirectory.open(output) else { return nil }
    // A pending replacement of an output is what gets resumed.
    for directory in [try OutputReplacement(output: root).begun(), root].compactMap({ $0 }) {
      do throws(CheckpointError) {
        let names = try directory.names()
        if names.contains(OutputMarkers.manifest) {
          return try Manifest.read(in: directory).plan.request
        }
        guard names.contains(OutputMarkers.journal) else { continue }
        let contents = try JournalContents(in: directory)
        guard let identity = contents.identity else { continue }
        return try JournalIdentity(
          reading: identity, expecting: toolkitVersion, path: directory.path(of: OutputMarkers.journal)
        ).request
      } catch {
        guard error.code != .inputOutput else { throw error }
      }
    }
    return nil
  }
}
