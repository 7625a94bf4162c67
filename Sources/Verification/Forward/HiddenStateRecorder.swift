public import Step3Runtime
internal import Synchronization

/// Writes the residual stream after each layer into a dump, numbered as `hidden_states.N`: 0 is the embedded tokens, N
/// the stream after N layers, and the last is the output of the final norm. Nothing is kept in memory.
public final class HiddenStateRecorder: ForwardObserver {
  private let dump: LogitsDump
  private let layerCount: Int
  /// The first error: observers cannot throw.
  private let failure = Mutex<(any Error)?>(nil)

  /// Prepares for a model with this many layers.
  ///
  /// - Parameter dump: A file with the hidden states ``numbers(layerCount:)``.
  public init(layerCount: Int, dump: LogitsDump) {
    self.layerCount = layerCount
    self.dump = dump
  }

  /// The state numbers of a model with this many layers.
  public static func numbers(layerCount: Int) -> [Int] { Array(0...layerCount + 1) }

  /// Writes the numbered states.
  public func note(_ stage: ForwardStage, layer: Int?, _ values: Activations) {
    let number: Int? =
      switch stage {
      case .embedding: 0
      case .layerOutput: layer.map { $0 + 1 }
      case .finalNorm: layerCount + 1
      default: nil
      }
    guard let number else { return }
    do {
      for row in 0..<values.rows { try dump.writeHiddenState(number, values[row], row: row) }
    } catch {
      failure.withLock { $0 = $0 ?? error }
    }
  }

  /// Throws the first error, if any.
  ///
  /// - Throws: The first error of writing.
  public func check() throws {
    if let error = failure.withLock({ $0 }) { throw error }
  }
}
