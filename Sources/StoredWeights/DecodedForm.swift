internal import Checkpoint
internal import TensorFormats

/// Weights in forms that can only be read, as F32 tensors that are decoded when read.
enum DecodedForm {
  /// The checkpoint with such weights in place of their codes; unchanged if it has none.
  ///
  /// - Parameter isTolerant: Whether unknown modules are left as they are.
  /// - Throws: As ``CodeRecognition/weight(of:)``, unless tolerant.
  static func of(
    _ checkpoint: Checkpoint, isTolerant: Bool
  ) throws(CheckpointError) -> Checkpoint {
    guard checkpoint.format == .safetensors else { return checkpoint }
    let recognition = try CodeRecognition(checkpoint)
    var hidden: Set<String> = []
    var derived: [Checkpoint.Derived] = []
    for tensor in checkpoint.tensors {
      guard let stem = CodeRecognition.module(ofCodes: tensor.name) else { continue }
      let found: CodeRecognition.Found?
      do throws(CheckpointError) {
        found = try recognition.weight(of: stem)
      } catch {
        guard isTolerant else { throw error }
        continue
      }
      guard case .decoded(let codes)? = found, codes.codes.name == tensor.name else { continue }
      let components = codes.components
      hidden.formUnion(components.map(\.name))
      hidden.insert("\(stem).weight_shape")
      derived.append(
        Checkpoint.Derived(
          name: "\(stem).weight", elementType: .f32, shape: codes.shape,
          source: DecodedSource(codes: codes, checkpoint: checkpoint), origins: components,
          operation: "decoded from \(codes.name)"))
    }
    return hidden.isEmpty ? checkpoint : checkpoint.replacing(hidden, with: derived)
  }
}
