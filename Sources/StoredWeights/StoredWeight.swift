public import Checkpoint
public import Quantization
public import TensorFormats

/// How one weight, or a box of it, is stored in a checkpoint's files: as one tensor of values, or as codes with
/// separate scale tensors.
public struct StoredWeight: Hashable, Sendable {
  /// How codes and scales make values; `nil` for a tensor that holds the values itself. (Of these, GGUF's NVFP4 can
  /// have ``matrixScales`` beside it, which are multiplied in.)
  public let scheme: StoredScheme?
  /// The values or codes.
  public let codes: Checkpoint.Tensor
  /// The scales of tiles, rows or groups.
  public let scales: Checkpoint.Tensor?
  /// The scales of whole matrices.
  public let matrixScales: Checkpoint.Tensor?
  /// The shape of the values, row-major.
  public let shape: TensorShape

  /// Every tensor that it consists of.
  public var components: [Checkpoint.Tensor] { [codes] + [scales, matrixScales].compactMap { $0 } }

  /// The bytes of all of it.
  public var byteCount: Int { components.reduce(0) { $0 + $1.byteRange.count } }

  /// A tensor that holds its values, or is taken as it is stored.
  public init(values tensor: Checkpoint.Tensor) {
    scheme = nil
    codes = tensor
    scales = nil
    matrixScales = nil
    shape = tensor.shape
  }

  /// Combines a weight's tensors.
  package init(
    _ scheme: StoredScheme?, _ codes: Checkpoint.Tensor, _ shape: TensorShape, scales: Checkpoint.Tensor?,
    matrixScales: Checkpoint.Tensor? = nil
  ) {
    self.scheme = scheme
    self.codes = codes
    self.scales = scales
    self.matrixScales = matrixScales
    self.shape = shape
  }

  /// The same weight with file indices shifted by `count`.
  func shiftingFiles(by count: Int) -> StoredWeight {
    StoredWeight(
      scheme, codes.shiftingFile(by: count), shape, scales: scales?.shiftingFile(by: count),
      matrixScales: matrixScales?.shiftingFile(by: count))
  }
}
