public import TensorFormats

extension Checkpoint.Format {
  /// Whether a file of this format can hold tensors of `type`.
  ///
  /// Safetensors has every scalar type and none of GGML's blocks. GGUF has GGML's blocks, the floating-point types
  /// from 16 bits up and the signed integers; it does not have eight-bit floats, unsigned integers or booleans.
  public func holds(_ type: ElementType) -> Bool {
    switch self {
    case .safetensors: !type.isBlockQuantized
    case .gguf:
      switch type {
      case .f16, .bf16, .f32, .f64, .i8, .i16, .i32, .i64: true
      default: type.isBlockQuantized
      }
    }
  }

  /// The name for users.
  public var displayName: String {
    switch self {
    case .safetensors: "safetensors"
    case .gguf: "GGUF"
    }
  }
}
