public import Checkpoint
internal import ByteStreams
internal import GGUF
public import TensorFormats

extension Tokenizer {
  /// The tokenizer of a checkpoint: the file next to the weights, or a GGUF file's metadata.
  ///
  /// - Throws: `.notFound` if there is no tokenizer, and as ``init(in:)``.
  public init(of checkpoint: Checkpoint) throws(CheckpointError) {
    if let metadata = checkpoint.ggufMetadata {
      do throws(CheckpointError) {
        if let stated = try Step3Tokenizer(metadata: metadata) {
          self = try Tokenizer(stated)
          return
        }
      } catch {
        throw error.at(path: checkpoint.mainFilePath)
      }
    }
    // In a partition set it is in the attention part.
    let stores = [checkpoint.store] + checkpoint.parts.map(\.checkpoint.store)
    var failure: CheckpointError?
    for store in stores {
      do throws(CheckpointError) {
        self = try Tokenizer(in: store)
        return
      } catch {
        guard error.code == .notFound else { throw error }
        failure = failure ?? error
      }
    }
    throw failure ?? CheckpointError(.notFound, "has no tokenizer", path: checkpoint.path)
  }
}
