internal import Checkpoint

/// What names mean, as far as a model description knows: the only place in this module that asks one.
struct ModelNames {
  init(_ checkpoint: Checkpoint) {}
  func role(_ name: String) -> (role: TensorRole, layer: Int?) { (.other, nil) }
  func canonical(_ name: String) -> String { name }
}
