public import Checkpoint
public import Quantization
public import TensorFormats

/// How one weight, or a box of it, lies in a checkpoint's files: as one tensor of values, or as codes with scales in
/// tensors of their own.
public struct StoredWeight: Hashable, Sendable {
  /// How codes and scales make values; `nil` for a tensor that holds the values itself. (GGUF's NVFP4 is one that can
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

  /// Every tensor it is made of.
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

  /// Puts a weight's tensors together.
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

  /// The same weight in a checkpoint that has so many files before its own.
  func shiftingFiles(by count: Int) -> StoredWeight {
    StoredWeight(
      scheme, codes.shiftingFile(by: count), shape, scales: scales?.shiftingFile(by: count),
      matrixScales: matrixScales?.shiftingFile(by: count))
  }
}
