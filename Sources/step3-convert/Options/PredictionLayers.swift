internal import Checkpoint
internal import Step3Model
internal import TensorFormats

/// Which layers of a model predict further tokens, and the name patterns to leave them or the others out.
struct PredictionLayers {
  private let first: Int
  private let count: Int

  /// - Throws: `.invalidRequest` for a model without such layers, and errors in the configuration.
  init(of checkpoint: Checkpoint) throws(CheckpointError) {
    let text = try Step3Configuration(of: checkpoint)?.text
    guard let text, text.predictionLayerCount > 0 else {
      throw CheckpointError(
        .invalidRequest,
        "--mtp and --no-mtp are for models with layers that predict further tokens; this has none",
        path: checkpoint.path, remedy: "leave the option out")
    }
    (first, count) = (text.layerCount, text.predictionLayerCount)
  }

  /// A regular expression for the tensor names to leave out, in either format and in any wrapper: these layers, or all
  /// other layers and the vision side.
  func pattern(keepingThem isKept: Bool) -> String {
    let layers = isKept ? Array(0..<first) : Array(first..<first + count)
    let numbers = layers.map(String.init).joined(separator: "|")
    let names = "^blk\\.(\(numbers))\\.|(^|\\.)layers\\.(\(numbers))\\."
    return isKept ? names + "|(^|\\.)vision_model\\.|(^|\\.)vit_|^v\\.|^mm\\." : names
  }
}
