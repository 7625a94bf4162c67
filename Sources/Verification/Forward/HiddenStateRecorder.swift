public import Step3Runtime
internal import Synchronization

/// Keeps the residual stream after each layer, numbered as `hidden_states.N`: 0 is the embedded tokens, N the stream
/// after N layers, and the last is what the final norm makes of it, as transformers numbers them.
public final class HiddenStateRecorder: ForwardObserver {
  private let states = Mutex<[Int: Activations]>([:])
  private let layerCount: Int

  /// Prepares for a model of so many layers.
  public init(layerCount: Int) { self.layerCount = layerCount }

  /// Keeps a copy of what is numbered.
  public func note(_ stage: ForwardStage, layer: Int?, _ values: Activations) {
    let number: Int? =
      switch stage {
      case .embedding: 0
      case .layerOutput: layer.map { $0 + 1 }
      case .finalNorm: layerCount + 1
      default: nil
      }
    guard let number else { return }
    let copy = values.copy(rows: 0..<values.rows)
    states.withLock { $0[number] = copy }
  }

  /// The states by number.
  public var numbers: [Int] { states.withLock { $0.keys.sorted() } }

  /// One of the states; `nil` if it was not seen.
  public subscript(number: Int) -> Activations? { states.withLock { $0[number] } }
}
