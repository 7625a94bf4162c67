internal import Checkpoint
internal import Step3Model

/// What names mean: the only place in this module that asks a model description.
struct ModelNames {
  private let format: Checkpoint.Format

  init(_ checkpoint: Checkpoint) { format = checkpoint.format }

  /// What a tensor is for, and in which layer it is.
  func role(_ name: String) -> (role: TensorRole, layer: Int?) {
    let description = TensorDescription(name: name)
    return (description.role, description.layer)
  }

  /// The name in a Hugging Face checkpoint, where the model description knows it; otherwise the name itself.
  func canonical(_ name: String) -> String {
    guard format == .gguf, let known = Step3TensorName(gguf: name) else { return name }
    return known.huggingFace
  }
}
