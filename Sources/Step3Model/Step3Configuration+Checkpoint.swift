internal import ByteStreams
public import Checkpoint
internal import GGUF
internal import JSON
public import TensorFormats

extension Step3Configuration {
  /// The configuration of a checkpoint of either format; `nil` if its model is none of the family, or says nothing of
  /// itself.
  ///
  /// - Throws: What is wrong with a configuration that cannot be read, or that says it is of the family. The error names
  ///   the file.
  public init?(of checkpoint: Checkpoint) throws(CheckpointError) {
    try checkpoint.requireReadableConfiguration()
    if let metadata = checkpoint.ggufMetadata {
      guard ModelFamily(ggufArchitecture: metadata.string("general.architecture")) != nil else { return nil }
      var configuration: Step3Configuration
      do throws(CheckpointError) {
        configuration = try Step3Configuration(ggufMetadata: metadata)
      } catch {
        throw error.at(path: checkpoint.mainFilePath)
      }
      // The vision side describes itself in the file of its own.
      if let companion = checkpoint.files.first(where: \.isVisionCompanion), let own = companion.ggufMetadata
      {
        do throws(CheckpointError) {
          configuration.vision = try Step3Configuration.Vision(ggufMetadata: own)
        } catch {
          throw error.at(path: companion.source.path)
        }
      }
      self = configuration
      return
    }
    guard let document = checkpoint.configurationDocument, let members = document.members,
      Step3Configuration.family(.object(members)) != nil
    else { return nil }
    do throws(CheckpointError) {
      try self.init(.object(members))
    } catch {
      throw error.at(path: document.path)
    }
  }
}

extension Checkpoint.File {
  /// Whether it is the vision side's file of a GGUF model. Of a split one only the first file says so.
  package var isVisionCompanion: Bool {
    ggufMetadata?.string("general.architecture") == "clip"
      || ggufMetadata?.string("general.type") == "mmproj"
  }
}
