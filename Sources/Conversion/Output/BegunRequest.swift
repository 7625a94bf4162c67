internal import ByteStreams
internal import Checkpoint
public import ShardPlanning
public import TensorFormats

extension Conversion {
  /// What an output was asked to be that is complete, or was begun: what was decided for it need not be decided again.
  ///
  /// - Returns: `nil` where there is none, or none that can go on; the conversion then says what is wrong with it.
  /// - Throws: `.inputOutput`.
  public static func request(begunIn output: String) throws(CheckpointError) -> ShardPlan.Request? {
    guard let root = try HeldDirectory.open(output) else { return nil }
    // What is to take the place of an output is what goes on.
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
