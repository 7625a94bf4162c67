internal import ByteStreams
public import Checkpoint
internal import GGUF
internal import JSON
public import TensorFormats

extension Step3Configuration {
  /// The configuration of a checkpoint of either format; `nil` if its model is not in the family, or it does not
  /// say.
  ///
  /// - Throws: Errors in a configuration that cannot be read, or that claims to be of the family. The error names the
  ///   file.
  public init?(of checkpoint: Checkpoint) throws(CheckpointError) {
    try checkpoint.requireReadableConfiguration()
    if let metadata = checkpoint.ggufMetadata {
      guard let family = ModelFamily(of: checkpoint) else { return nil }
      let projector = checkpoint.ggufProjector
      // The vision side describes itself in its own file.
      let companion = checkpoint.visionCompanion
      var configuration: Step3Configuration
      do throws(CheckpointError) {
        let embedding = family.model.gguf(Step3TensorName(.tokenEmbedding)).flatMap { checkpoint[$0] }
        configuration = try Step3Configuration(
          ggufMetadata: metadata, projector: projector, vocabularySize: embedding?.shape.dimensions.first,
          scaling: nil)
        try configuration.findScaling(in: checkpoint)
      } catch {
        throw error.at(path: checkpoint.mainFilePath)
      }
      if let companion, let own = companion.ggufMetadata {
        do throws(CheckpointError) {
          var vision = try Step3Configuration.Vision(ggufMetadata: own)
          if family != .step3 {
            // No key gives the token's id, but its text is known.
            let tokens = metadata.strings("tokenizer.ggml.tokens")
            vision.imageTokenID =
              tokens?.firstIndex(of: "<im_patch>")
              ?? min(vision.imageTokenID, configuration.text.vocabularySize - 1)
          }
          configuration.vision = vision
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

extension Step3Configuration {
  /// Finds the scaling of the rotary embedding. GGUF has only the factors, in a tensor, and unknown rules are not
  /// guessed.
  private mutating func findScaling(in checkpoint: Checkpoint) throws(CheckpointError) {
    guard family.model[.rotaryFactors] != nil,
      let name = family.model.gguf(Step3TensorName(.rotaryFactors)), let tensor = checkpoint[name]
    else { return }
    guard tensor.elementType == .f32, tensor.shape.dimensions == [text.headDimension / 2] else {
      throw CheckpointError(
        .malformed, "expected F32 [\(text.headDimension / 2)], found \(tensor.elementType) \(tensor.shape)",
        tensor: name)
    }
    let file = checkpoint.files[tensor.file]
    let bytes = try file.source.readBytes(tensor.byteRange)
    let stored = stride(from: 0, to: bytes.count, by: 4).map { start -> UInt32 in
      let word = bytes[start..<start + 4]
      return (file.byteOrder == .big ? Array(word) : word.reversed()).reduce(0) { $0 << 8 | UInt32($1) }
    }
    text.ropeScaling = Step3Configuration.published(family).text.ropeScaling
    guard text.rotaryFactors?.map(\.bitPattern) == stored else {
      throw CheckpointError(
        .unsupported,
        "its rotary embedding factors are not those of \(family.name), and the rule behind them is not known",
        tensor: name)
    }
  }
}

extension Checkpoint.File {
  /// Whether it is the vision side's file of a GGUF model. If it is split, only the first file says so.
  package var isVisionCompanion: Bool {
    ggufMetadata?.string("general.architecture") == "clip"
      || ggufMetadata?.string("general.type") == "mmproj"
  }
}

extension ModelFamily {
  /// The family of a checkpoint of either format, by what it says about itself; `nil` for models outside it.
  package init?(of checkpoint: Checkpoint) {
    if let metadata = checkpoint.ggufMetadata {
      self.init(
        ggufArchitecture: metadata.string("general.architecture"), projector: checkpoint.ggufProjector)
    } else {
      guard let document = checkpoint.configurationDocument else { return nil }
      self.init(modelType: document.modelType, architectures: document.architectures)
    }
  }
}

extension Checkpoint {
  /// The file of the vision side.
  fileprivate var visionCompanion: File? { files.first(where: \.isVisionCompanion) }

  /// Its projector type.
  fileprivate var ggufProjector: String? { visionCompanion?.ggufMetadata?.string("clip.projector_type") }
}
