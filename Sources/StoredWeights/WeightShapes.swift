public import Checkpoint
internal import Quantization
public import TensorFormats

/// The shapes of the values that a checkpoint's tensors hold, which packed codes do not show.
public struct WeightShapes: Sendable {
  private let shapes: [String: TensorShape]

  /// Searches a checkpoint, or a part of a partition set, for packed codes. Inconsistent ones are taken as stored.
  ///
  /// - Complexity: O(number of tensors); reads nothing but stated shapes before packing.
  public init(_ checkpoint: Checkpoint) {
    var shapes: [String: TensorShape] = [:]
    if let recognition = try? CodeRecognition(checkpoint) {
      for tensor in checkpoint.tensors where [.i32, .u8].contains(tensor.elementType) {
        guard let stem = CodeRecognition.module(ofCodes: tensor.name) else { continue }
        switch try? recognition.weight(of: stem) {
        case .stored(let weight)?: shapes[weight.codes.name] = weight.shape
        case .decoded(let codes)?: shapes[codes.codes.name] = codes.shape
        case .values?: break
        case nil: shapes[tensor.name] = recognition.statedShape(ofCodes: tensor, stem)
        }
      }
    }
    self.shapes = shapes
  }

  /// The shape of the values that a tensor holds: its own, unless it packs several codes into one element.
  ///
  /// - Complexity: O(1).
  public func valuesShape(of tensor: Checkpoint.Tensor) -> TensorShape { shapes[tensor.name] ?? tensor.shape }
}
