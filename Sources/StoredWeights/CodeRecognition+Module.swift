internal import ByteStreams
internal import Checkpoint
internal import TensorFormats

extension CodeRecognition {
  /// The tensors of a module that has codes, being recognised.
  struct Module {
    let stem: String
    let codes: Checkpoint.Tensor
    let recognition: CodeRecognition

    typealias Found = CodeRecognition.Found

    var checkpoint: Checkpoint { recognition.checkpoint }
    var settings: QuantizationSettings { recognition.settings }

    func companion(_ suffix: String) -> Checkpoint.Tensor? { checkpoint["\(stem).\(suffix)"] }

    /// GGUF keeps scales in its blocks, except that of a matrix of NVFP4.
    ///
    /// Source: llama.cpp, which multiplies the product of an NVFP4 matrix with it.
    func blocks() throws(CheckpointError) -> Found {
      guard codes.elementType == .nvfp4, let factors = companion("scale") else { return .values(codes) }
      guard factors.elementType == .f32, factors.shape.elementCount == matrices(codes.shape) else {
        throw misfit(factors, "[\(matrices(codes.shape))] of F32")
      }
      return .stored(StoredWeight(nil, codes, codes.shape, scales: nil, matrixScales: factors))
    }

    /// How the codes of a safetensors file are stored; `nil` if nothing marks them as codes.
    func scaled() throws(CheckpointError) -> Found? {
      if codes.name.hasSuffix(".qweight") { return try transposedIntegers() }
      if codes.name.hasSuffix(".weight_packed") {
        guard [nil, "compressed-tensors"].contains(settings.method) else {
          throw unread(
            "codes under this name are compressed-tensors', but the configuration says \(settings.description)"
          )
        }
        switch codes.elementType {
        case .i32: return try packedIntegers()
        case .u8: return try packedFloats()
        default: throw unread("packed codes are I32 or U8, but these are \(codes.elementType)")
        }
      }
      switch codes.elementType {
      case .f8E4M3, .f8E5M2, .f8E4M3FNUZ, .f8E5M2FNUZ: return try smallFloats()
      case .i8: return try smallIntegers()
      case .u8:
        guard companion("weight_scale") != nil else { return nil }
        return try packedFloats()
      default: return nil
      }
    }

    // MARK: Errors

    func unread(_ message: String) -> CheckpointError {
      CheckpointError(
        .unsupported, message, path: checkpoint.path(of: codes), tensor: codes.name,
        remedy: CodeRecognition.wayOut)
    }

    func misfit(_ scales: Checkpoint.Tensor, _ expected: String?) -> CheckpointError {
      CheckpointError(
        .malformed,
        "has the shape \(scales.shape), which does not match a weight stored as \(codes.elementType) \(codes.shape)"
          + (expected.map { "; expected \($0)" } ?? ""),
        path: checkpoint.path(of: scales), tensor: scales.name)
    }

    func matrices(_ shape: TensorShape) -> Int { shape.rank == 3 ? shape.dimensions[0] : 1 }
  }
}
